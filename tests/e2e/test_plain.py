"""The rig itself: plain generations, without the extension's method, are sound and repeatable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from client import ApiError, Client, Result
from forge_server import ForgeServer
from random_weights import SD15, SDXL


def assert_sound(result: Result) -> None:
    """Checks for one finite, varied, opaque image of the right size."""
    assert np.isfinite(result.latents).all()
    assert result.latents.shape == (1, 4, 32, 32)
    assert result.latents.std() > 0.1
    [image] = result.images
    assert image.shape == (256, 256, 3)
    assert image.std() > 10


def assert_same(first: Result, second: Result) -> None:
    """Checks for equal bits."""
    np.testing.assert_array_equal(first.latents, second.latents)
    np.testing.assert_array_equal(np.stack(first.images), np.stack(second.images))


@pytest.mark.parametrize("checkpoint", [SD15, SDXL])
def test_repeats_bit_for_bit(
    forge: ForgeServer, client: Client, tmp_path: Path, checkpoint: str
) -> None:
    first = client.txt2img(checkpoint=checkpoint, record=tmp_path / "first")
    second = client.txt2img(checkpoint=checkpoint, record=tmp_path / "second")
    forge.restart()
    third = Client(forge.url).txt2img(checkpoint=checkpoint, record=tmp_path / "third")
    assert_sound(first)
    assert_same(first, second)
    assert_same(first, third)
    assert first.run["steps"] == 2
    assert first.run["checkpoint"] == checkpoint
    assert first.run["checksum"] == third.run["checksum"]
    print(f"{checkpoint}: {first.seconds:.1f} s, {second.seconds:.1f} s, {third.seconds:.1f} s")
    print(f"memory: {third.run['rss'] / 2**30:.1f} GiB")


def test_seed_prompt_and_lora_change_the_picture(client: Client, tmp_path: Path) -> None:
    base = client.txt2img(checkpoint=SD15, record=tmp_path / "base")
    others = [{"seed": 5}, {"prompt": "a dog"}, {"prompt": "a glass ball <lora:random_lora:1>"}]
    for index, change in enumerate(others):
        other = client.txt2img(record=tmp_path / str(index), **change)
        assert np.abs(other.latents - base.latents).max() > 0.05, change
    again = client.txt2img(record=tmp_path / "again")
    assert_same(base, again)
    assert again.run["checksum"] == base.run["checksum"]


def test_img2img(client: Client, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    result = client.img2img(
        [picture], checkpoint=SD15, record=tmp_path / "run", denoising_strength=0.9
    )
    assert_sound(result)


def test_probe_fails_and_interrupts_a_run(client: Client, tmp_path: Path) -> None:
    base = client.txt2img(checkpoint=SD15, record=tmp_path / "base")
    with pytest.raises(ApiError) as failure:
        client.txt2img(record=tmp_path / "failed", fail_at=1)
    assert failure.value.status == 500
    assert "E2E probe" in str(failure.value.body)
    stopped = client.txt2img(record=tmp_path / "stopped", interrupt_at=0, steps=3)
    assert stopped.run["steps"] == 1
    assert_same(base, client.txt2img(record=tmp_path / "again"))
    assert client.model()["hooks"] == 0
    assert client.model()["overridden"] == []
