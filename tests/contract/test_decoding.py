"""The decoder in each host: stopped between views, and without memory at each stage."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
import torch
from adapters import each, run
from tiny_codec import tiny_decoder_weights, tiny_inputs

from lib_layerdiffuse.codec.transparent import TransparentDecoder
from lib_layerdiffuse.errors import CodecError
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.nets.unet1024 import UNet1024
from lib_layerdiffuse.pipeline import decode

__all__ = ["run"]
FG = find_method("fg_attn_sd15")
SIZE = (64, 320)  # Not one part of 256 pixels.
SAVING = [0, 1, 2]
"""How many skip connections a pass computes again, in the order in which it is tried."""
STAGES = {
    0: (SAVING[:1], None),
    1: (SAVING[:2], None),
    2: (SAVING, None),
    3: ([*SAVING, 0], "in parts of 256 pixels"),
    5: (SAVING * 2, "in parts of 256 pixels"),
    6: ([*SAVING * 2, 0], "took a single view"),
    8: (SAVING * 3, "took a single view"),
}
"""By how often memory is full: what is tried until it is not, and what is told at last."""


@pytest.fixture
def image(run):
    """A decoder, the run's host, pixels and a latent: what `decode` takes."""
    decoder = TransparentDecoder.from_state_dict(tiny_decoder_weights())
    pixels, latent = tiny_inputs(*SIZE)
    return decoder, run.open(FG).host, pixels[0], latent[0]


@pytest.fixture(autouse=True)
def full(monkeypatch):
    """Returns what makes so many of the decoder's passes fail, and notes how all save memory.

    The others find a ramp of alpha from the left, which is another one in each view.
    """
    tried = []

    def fill(times=0):
        calls = count()
        tried.clear()

        def one(net, pixels, latent, thrift):
            tried.append(thrift.recomputed)
            if next(calls) < times:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
            ramp = torch.linspace(0, 1, pixels.shape[3]).expand_as(pixels[:, :1])
            return torch.cat([ramp, pixels], dim=1)

        monkeypatch.setattr(UNet1024, "by_strips", one)
        return tried

    fill()
    return fill


@each()
def test_full_memory_at_each_stage_is_followed_by_the_next(run, image, full):
    wanted = decode(*image, views=2)
    for times, (ways, said) in STAGES.items():
        tried, told = full(times), []
        rgba = decode(*image, views=2, on_retry=told.append)
        assert tried[: len(ways)] == ways
        assert not any(tried[len(ways) :])  # Of what fits, the next part or view does as well.
        if said is None:
            assert not told
            assert np.array_equal(rgba, wanted)
        else:
            assert said in told[-1]
            assert np.array_equal(rgba[..., :3], wanted[..., :3])


@each()
def test_full_memory_at_the_last_stage_is_told(run, image, full):
    tried = full(9)
    with pytest.raises(CodecError, match="not even for parts"):
        decode(*image, views=2)
    assert tried == SAVING * 3


@each()
@pytest.mark.parametrize("views", [8, "adaptive"])
def test_a_stop_between_views_keeps_those_seen(run, image, views):
    seen = []

    def stop(done, most):
        seen.append((done, most))
        return done < 3

    rgba = decode(*image, views=views, on_view=stop)
    assert seen == [(n, 8) for n in (1, 2, 3)]
    assert np.array_equal(rgba, decode(*image, views=3))
    assert not np.array_equal(rgba, decode(*image, views=8))


@each()
def test_a_stop_while_memory_is_full_keeps_the_parts_seen(run, image, full):
    full(3)
    rgba = decode(*image, views=4, on_view=lambda done, _: done < 2)
    full(3)
    assert np.array_equal(rgba, decode(*image, views=2))
    assert not np.array_equal(rgba, decode(*image, views=4))
