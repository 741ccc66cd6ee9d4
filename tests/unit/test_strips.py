"""The decoder's network strip by strip: what it makes is what the whole makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from live_bytes import DEVICE, LiveBytes
from tiny_codec import LAYOUTS, released_shapes, tiny_decoder_weights, tiny_inputs
from torch import Tensor

from lib_layerdiffuse.nets import unet_blocks, unet_pass
from lib_layerdiffuse.nets.full_memory import PORTION, room
from lib_layerdiffuse.nets.unet1024 import UNet1024
from lib_layerdiffuse.nets.unet_pass import Thrift

NET = UNet1024.from_state_dict(tiny_decoder_weights())
PLANS = [
    Thrift(1, recomputed, on_host) for recomputed in (0, 1, 2) for on_host in (False, True)
]  # 8 rows a strip, the fewest


def whole(net: UNet1024, pixels: Tensor, latent: Tensor) -> Tensor:
    """Returns what the network makes of an image at once."""
    with torch.enable_grad():
        made: Tensor = net(pixels, latent)
    return made.detach()


@pytest.mark.parametrize("thrift", PLANS, ids=str)
def test_strips_make_what_the_whole_makes(thrift: Thrift) -> None:
    pixels, latent = tiny_inputs(192, 64, batch=2)
    made = NET.by_strips(pixels, latent, thrift)
    torch.testing.assert_close(made, whole(NET, pixels, latent), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", LAYOUTS)
def test_strips_of_other_layouts(name: str) -> None:
    net = UNet1024.from_state_dict(tiny_decoder_weights(seed=3, layout=LAYOUTS[name]))
    pixels, latent = tiny_inputs(128, 64)
    made = net.by_strips(pixels, latent, Thrift(1, recomputed=2))
    torch.testing.assert_close(made, whole(net, pixels, latent), rtol=0, atol=1e-5)


def test_a_strips_size_changes_nothing_beyond_rounding() -> None:
    inputs = tiny_inputs(256, 128)
    one, other = (NET.by_strips(*inputs, Thrift(values)) for values in (8 * 128 * 40, float("inf")))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_inputs_stay_as_they_are() -> None:
    pixels, latent = tiny_inputs(64, 64)
    copies = pixels.clone(), latent.clone()
    NET.by_strips(pixels, latent, Thrift(1, recomputed=2))
    assert torch.equal(pixels, copies[0])
    assert torch.equal(latent, copies[1])


def test_memory_that_is_free_says_what_is_kept() -> None:
    gpu, values = torch.device("cuda"), 10**9
    found = {}
    for maps in (2.5, 3.5, 4.5, 5.5):
        free = int(4 * values * maps / PORTION)
        found[maps] = [way.recomputed for way in unet_pass.thrifts(gpu, values, 4, free)]
    assert list(found.values()) == [[2], [2, 2], [1, 2, 2], [0, 1, 2, 2]]


def test_a_cpu_gives_half_of_what_is_free_and_at_most_a_gibibyte() -> None:
    cpu = torch.device("cpu")
    assert [room(cpu, free) for free in (1000, 2**40, None)] == [500, 2**30, 2**30]


@pytest.mark.parametrize("failures", [1, 2])
def test_full_memory_makes_the_next_pass_thriftier(
    monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    tried, by_strips = [], UNet1024.by_strips

    def fails_at_first(net: UNet1024, *args: Any) -> Tensor:
        tried.append(args[-1].recomputed)
        if len(tried) <= failures:
            raise MemoryError
        return by_strips(net, *args)

    monkeypatch.setattr(UNet1024, "by_strips", fails_at_first)
    inputs = tiny_inputs(64, 64)
    with torch.no_grad():
        made = NET(*inputs)
    assert tried == list(range(failures + 1))
    torch.testing.assert_close(made, whole(NET, *inputs), rtol=0, atol=1e-5)


def test_full_memory_in_the_thriftiest_pass_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Tensor:
        raise MemoryError

    monkeypatch.setattr(UNet1024, "by_strips", fails)
    with torch.no_grad(), pytest.raises(MemoryError):
        NET(*tiny_inputs(64, 64))


@pytest.mark.slow
def test_a_large_image_takes_little_more_of_a_device_than_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All is as at 4096² beside 1024², with a sixteenth of the pixels and of a strip's values."""
    monkeypatch.setattr(unet_blocks, "_attention", lambda q, k, v: torch.empty_like(q))
    shapes = released_shapes("decoder")
    weights = {n: torch.empty(s, device=DEVICE, dtype=torch.half) for n, s in shapes.items()}
    net, most = UNet1024.from_state_dict(weights), {}
    for side, free in ((256, 2**40), (1024, 0)):
        first, *_ = unet_pass.thrifts(DEVICE, 32 * side**2, 2, free)
        pixels, latent = (x.half().to(DEVICE) for x in tiny_inputs(side, side))
        with torch.no_grad(), LiveBytes() as live:
            net.by_strips(pixels, latent, replace(first, values=first.values / 16))
        most[side] = live.most
    assert most[1024]["meta"] <= 1.3 * most[256]["meta"]
    assert most[256]["cpu"] == 0
