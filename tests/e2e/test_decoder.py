"""The transparent decoder in a WebUI: stopped in between, in little memory, and of large images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from client import Client, Result
from forge_server import ForgeServer
from layers import assert_same, generate, notes
from random_weights import SD15

Plain = Callable[..., Result]
METHOD = "fg_attn_sd15"
SIDE = {"width": 320, "height": 320}
"""Larger than the smallest parts of an image."""
WAYS = 3
"""How many ways the decoder has on a CPU to do with less memory at no cost but time."""
GIB = 2**30


def test_an_interrupt_between_views(
    client: Client, plain: Plain, views: Callable[[int], None], tmp_path: Path
) -> None:
    small = {"width": 128, "height": 128}
    before = plain(SD15, **small)
    client.use_checkpoint(SD15)
    views(8)
    whole = generate(client, METHOD, tmp_path / "whole", **small)
    scripts = {"e2e faults": ["decoder", 2, "interrupt"]}
    made = generate(client, METHOD, tmp_path / "made", scripts=scripts, **small)
    assert any("stopped after 3 of 8 views" in note for note in notes(made)), notes(made)
    (some,), (all_eight,) = made.images, whole.images
    assert some.shape == all_eight.shape
    assert some[..., 3].std() > 5
    assert not np.array_equal(some, all_eight)
    assert_same(before, client.txt2img(record=tmp_path / "after", **small))
    assert_same(whole, generate(client, METHOD, tmp_path / "again", **small))


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        (1, None),
        (WAYS - 1, None),
        (WAYS, "parts of 256 pixels"),
        (2 * WAYS, "single view"),
        (3 * WAYS, "stays RGB"),
    ],
)
def test_out_of_memory_at_each_stage(
    client: Client,
    views: Callable[[int], None],
    tmp_path: Path,
    failures: int,
    told: str | None,
) -> None:
    client.use_checkpoint(SD15)
    views(2)
    whole = generate(client, METHOD, tmp_path / "whole", **SIDE)
    scripts = {"e2e faults": ["strips", 0, "memory", failures]}
    made = generate(client, METHOD, tmp_path / "made", scripts=scripts, **SIDE)
    (image,), (expected,) = made.images, whole.images
    if told is None:
        np.testing.assert_array_equal(image, expected)
        assert not any("memory" in note for note in notes(made)), notes(made)
        return
    assert any(told in note for note in notes(made)), notes(made)
    assert image.shape[2] == (3 if told == "stays RGB" else 4)
    np.testing.assert_array_equal(
        generate(client, METHOD, tmp_path / "again", **SIDE).images[0], expected
    )


def test_2048_pixels_beside_a_checkpoint(forge: ForgeServer, tmp_path: Path) -> None:
    """Each further view takes 16 MiB more, and minutes."""
    client = Client(forge.restart().url)  # Without what earlier jobs have left in pieces.
    client.use_checkpoint(SD15)
    generate(client, METHOD, tmp_path / "loads", width=64, height=64)
    found = client.call("POST", "/e2e/decoder", {"side": 2048, "views": 2})
    print({name: found[name] for name in ("before", "peak", "seconds")})
    assert found["shape"] == [2048, 2048, 4]
    assert found["notes"] == []
    assert found["peak"] < 6 * GIB
