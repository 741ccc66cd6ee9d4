"""What is tried where the decoder or encoder overflows or memory is full, and what that gives."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_codec import tiny_decoder_weights, tiny_encoder_weights, tiny_inputs
from torch import nn

from lib_layerdiffuse import pipeline
from lib_layerdiffuse.codec.attempts import Attempt, climb
from lib_layerdiffuse.codec.tiles import in_strips, in_tiles
from lib_layerdiffuse.codec.transparent import TransparentDecoder, TransparentEncoder
from lib_layerdiffuse.errors import CodecError, OverflowsError
from lib_layerdiffuse.nets.full_memory import is_memory_error

HALF, FLOAT = torch.float16, torch.float32


class HostsOwn(Exception):
    """A host's own type for a full memory."""


class TestLadder:
    def test_full_memory_takes_smaller_parts_then_fewer_views(self):
        found, attempt = [], Attempt(HALF, views=8)
        while attempt is not None:
            found.append((attempt.dtype, attempt.tile, attempt.views))
            attempt = attempt.after_full_memory(1024)
        assert found == [(HALF, None, 8), (HALF, 512, 8), (HALF, 256, 8), (HALF, 256, 1)]

    def test_parts_are_smaller_than_the_image(self):
        assert Attempt().after_full_memory(512) == Attempt(tile=256)
        assert Attempt(views=8).after_full_memory(256) == Attempt(views=1)
        assert Attempt().after_full_memory(64) is None

    def test_overflow_is_computed_in_float32_first(self):
        assert Attempt(views=8).after_overflow(HALF, 1024) == Attempt(FLOAT, views=8)
        assert Attempt(tile=256).after_overflow(HALF, 1024) == Attempt(FLOAT, 256)
        assert Attempt().after_overflow(FLOAT, 1024) == Attempt(tile=512)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.cuda.OutOfMemoryError(), True),
        (MemoryError(), True),
        (HostsOwn(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"), True),
        (RuntimeError("Could not allocate tensor with 9 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_say_that_memory_is_full(error, full):
    assert is_memory_error(error, (HostsOwn,)) is full


def test_a_host_that_calls_everything_a_full_memory_tells_nothing():
    assert not is_memory_error(ValueError("a fault of ours"), (Exception,))


class TestClimb:
    @staticmethod
    def climb(failures, dtype=HALF, **more):
        tried, told = [], []

        def run(attempt):
            tried.append(attempt)
            if len(tried) <= len(failures):
                raise failures[len(tried) - 1]
            return "done"

        result = climb(
            Attempt(views=8),
            run,
            network="transparent decoder",
            longest=1024,
            computed_in=lambda: tried[-1].dtype or dtype,
            memory_errors=(HostsOwn,),
            on_retry=told.append,
            **more,
        )
        return result, tried, told

    def test_the_first_attempt_may_do(self):
        assert self.climb([]) == ("done", [Attempt(views=8)], [])

    def test_numbers_that_overflow_are_not_called_a_full_memory(self):
        _, _, told = self.climb([OverflowsError("NaN")] * 3, dtype=FLOAT)
        assert len(told) == 3
        assert not [text for text in told if "memory" in text]
        assert told[-1].startswith("the transparent decoder overflowed, so it took")

    def test_each_failure_leads_to_the_next_attempt_and_is_told(self):
        result, tried, told = self.climb([OverflowsError("NaN"), HostsOwn(), HostsOwn()])
        assert result == "done"
        assert tried[1:] == [
            Attempt(FLOAT, None, 8),
            Attempt(FLOAT, 512, 8),
            Attempt(FLOAT, 256, 8),
        ]
        assert [text.partition(", so")[2].split()[-1] for text in told] == [
            "float32.",
            "little.",
            "little.",
        ]

    def test_in_the_end_it_is_an_error_with_a_hint(self):
        with pytest.raises(CodecError, match="memory is full: the transparent decoder") as caught:
            self.climb([HostsOwn()] * 4)
        assert caught.value.hint

    def test_numbers_that_overflow_everywhere_are_told(self):
        with pytest.raises(OverflowsError):
            self.climb([OverflowsError("NaN")] * 5)

    def test_other_errors_are_not_retried(self):
        with pytest.raises(ZeroDivisionError):
            self.climb([ZeroDivisionError()])

    def test_an_attempt_that_failed_holds_no_memory(self):
        held = []

        def run(attempt):
            if held:
                gc.collect()
                assert held[0]() is None
                return True
            tensor = nn.Identity()
            held.append(weakref.ref(tensor))
            try:
                raise HostsOwn
            except HostsOwn:
                raise MemoryError from None  # As where a host tries again in its own way.

        assert climb(
            Attempt(),
            run,
            network="",
            longest=1024,
            computed_in=lambda: HALF,
            memory_errors=(HostsOwn,),
        )


class SmallHost:
    """Has room for so many values at once; overflows in half."""

    def __init__(self, room, half=False):
        self.room, self.half, self.placed = room, half, []

    def memory_errors(self):
        return (HostsOwn,)

    def place(self, net, values, dtype=None):
        dtype = dtype or (HALF if self.half else FLOAT)
        self.placed.append((values, dtype))
        net.to(dtype)
        if values > self.room:
            raise HostsOwn

    def posterior(self, image):
        b, _, height, width = image.shape
        return (torch.zeros(b, 4, height // 8, width // 8),) * 2

    def sampler_latent(self, latent):
        return latent


def test_a_decoder_without_room_decodes_in_parts():
    decoder = TransparentDecoder.from_state_dict(tiny_decoder_weights())
    pixels, latent = (x[0] for x in tiny_inputs(64, 264))
    whole, parts = decoder.held(64 * 264), decoder.held(64 * 256)
    host, told = SmallHost(parts), []
    rgba = pipeline.decode(decoder, host, pixels, latent, views=2, on_retry=told.append)
    assert host.placed == [(whole, FLOAT), (parts, FLOAT)]
    assert told == [
        "the memory was full, so the transparent decoder took the image in parts of 256 pixels; "
        "the result may differ a little."
    ]
    wanted = decoder.decode(pixels[None], latent[None], views=2, tile=256)
    assert np.abs(rgba - wanted[0].permute(1, 2, 0).numpy() * 255).max() <= 0.51


def test_a_decoder_that_overflows_in_half_decodes_in_float32_without_lost_digits(monkeypatch):
    decoder = TransparentDecoder.from_state_dict(tiny_decoder_weights())
    pixels, latent = (x[0] for x in tiny_inputs(64, 64))
    wanted = pipeline.decode(decoder, SmallHost(10**9), pixels, latent, views=1)
    forward = type(decoder.net).forward

    def overflow(net, *args):
        made = forward(net, *args)
        return made * float("nan") if made.dtype is HALF else made

    monkeypatch.setattr(type(decoder.net), "forward", overflow)
    host = SmallHost(10**9, half=True)
    rgba = pipeline.decode(decoder, host, pixels, latent, views=1)
    assert [dtype for _, dtype in host.placed] == [HALF, FLOAT]
    assert np.array_equal(rgba, wanted)


def test_an_encoder_without_room_encodes_in_strips_to_the_same_latent():
    encoder = TransparentEncoder.from_state_dict(tiny_encoder_weights())
    rgba = np.random.default_rng(0).random((320, 384, 4), np.float32)
    host, told = SmallHost(encoder.held(256 * 256)), []
    latent = pipeline.encode(encoder, host, rgba, on_retry=told.append)
    wanted = pipeline.encode(encoder, SmallHost(10**9), rgba)
    assert len(told) == 1
    torch.testing.assert_close(latent, wanted)


@pytest.mark.parametrize("rows", [8, 64, 256])
def test_strips_of_the_encoder_make_what_the_whole_makes(rows):
    net = TransparentEncoder.from_state_dict(tiny_encoder_weights()).net
    argb = torch.rand(1, 4, 200, 72)
    with torch.no_grad():
        torch.testing.assert_close(in_strips(net, argb, rows), net(argb))


class TestTiles:
    @pytest.mark.parametrize("size", [(128, 448), (640, 64), (256, 256), (320, 512)])
    @pytest.mark.parametrize("side", [64, 128, 256])
    def test_a_function_of_each_place_is_unchanged(self, size, side):
        pixels, latent = tiny_inputs(*size)

        def of_each_place(pixels, latent):
            return torch.cat(
                [pixels, latent[:, :1].repeat_interleave(8, 2).repeat_interleave(8, 3)], 1
            )

        tiled = in_tiles(of_each_place, pixels, latent, side, 64)
        torch.testing.assert_close(tiled, of_each_place(pixels, latent))

    def test_no_part_is_larger_than_its_side_or_off_the_grid(self):
        seen = []

        def note(pixels, latent):
            assert pixels.shape[2] == 8 * latent.shape[2]
            seen.append(tuple(pixels.shape[2:]))
            return torch.zeros(1, 4, *pixels.shape[2:])

        in_tiles(note, *tiny_inputs(320, 704), side=256, step=64)
        assert set(seen) == {(256, 256)}
        assert len(seen) == 2 * 4

    @pytest.mark.slow  # Large images.
    def test_parts_of_a_trained_decoder_agree_with_the_whole(self, trained):
        """Alpha, over 768² pixels: 0.002 off on average in parts of 512, 0.007 in those of 256."""
        net, pixels, latent = trained
        with torch.no_grad():
            whole = net(pixels, latent)[:, 0].clamp(0, 1)
            for side, most in ((256, 0.015), (128, 0.03)):
                tiled = in_tiles(net, pixels, latent, side, 64)[:, 0].clamp(0, 1)
                assert (tiled - whole).abs().mean() < most
        assert whole.std() > 0.2

    @pytest.fixture(scope="class")
    @staticmethod
    def trained():
        pytest.importorskip("diffusers")
        from lib_layerdiffuse.imaging.images import flatten
        from lib_layerdiffuse.methods import Arch
        from lib_layerdiffuse.standalone.models import ModelChoice, Models
        from lib_layerdiffuse.tiny import scenes

        host, session = Models(SimpleNamespace).open(ModelChoice(), Arch.SDXL)
        drawn = [scenes.scene(seed, 128, unseen=True).fg for seed in range(9)]
        rows = [np.concatenate(drawn[i : i + 3], axis=1) for i in (0, 3, 6)]
        rgba = np.concatenate(rows)
        assert flatten(rgba).shape == (384, 384, 3)
        latent = pipeline.encode(session.encoder(Arch.SDXL), host, rgba)
        return session.decoder(Arch.SDXL).net, host.pixels(latent), host.vae_latent(latent)
