"""The decoder compiled by PyTorch: its result, and what is done where that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_codec import LAYOUTS, tiny_decoder_weights, tiny_inputs
from torch import Tensor

from lib_layerdiffuse.codec.transparent import TransparentDecoder

WEIGHTS = tiny_decoder_weights()


class Compiler:
    """Stands in for `torch.compile`: its programs run the function as it is.

    Attributes:
        asked: How often it was called.
        shapes: The images that its programs were given.
        failure: Raised by the programs, where it is set.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.shapes = 0, []
        self.failure: Exception | None = None
        monkeypatch.setattr(torch, "compile", self)

    def __call__(self, function: Callable[..., Tensor], **how: Any) -> Callable[..., Tensor]:
        self.asked += 1
        assert how == {"dynamic": False, "fullgraph": True}

        def program(pixels: Tensor, latent: Tensor) -> Tensor:
            self.shapes.append(tuple(pixels.shape))
            if self.failure is not None:
                raise self.failure
            return function(pixels, latent)

        return program


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    return Compiler(monkeypatch)


@pytest.fixture
def decoder() -> TransparentDecoder:
    return TransparentDecoder.from_state_dict(WEIGHTS)


def test_nothing_is_compiled_unless_it_is_asked_for(compiler, decoder):
    decoder.decode(*tiny_inputs(64, 64), views=1)
    assert not compiler.asked


def test_whole_maps_are_what_is_compiled(compiler, decoder):
    inputs = tiny_inputs(64, 128)
    made = decoder.decode(*inputs, views=5, compiled=True)
    assert compiler.shapes == [(1, 3, 64, 128)] * 4 + [(1, 3, 128, 64)]
    assert compiler.asked == 1
    torch.testing.assert_close(made, decoder.decode(*inputs, views=5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("why", ["here", "inside"])
def test_where_there_is_no_compiler_strips_do_it_and_it_is_told_once(
    monkeypatch, compiler, decoder, why
):
    error = RuntimeError("Compiler: cl is not found.\nSee the log.")
    if why == "inside":  # PyTorch's own errors say there what went wrong.
        outer = RuntimeError("backend='inductor' raised:")
        outer.inner_exception, error = error, outer
    compiler.failure = error
    inputs, told = tiny_inputs(64, 64), []
    made = decoder.decode(*inputs, views=2, compiled=True, tell=told.append)
    assert torch.equal(made, decoder.decode(*inputs, views=2))
    (note,) = told
    assert (
        "could not be compiled (Compiler: cl is not found), so it computed strip by strip" in note
    )
    assert "C++ compiler" in note
    decoder.decode(*tiny_inputs(128, 64), views=1, compiled=True, tell=told.append)
    assert (len(told), len(compiler.shapes)) == (1, 1)


def test_a_pytorch_that_compiles_nothing_at_all(monkeypatch, decoder):
    def refuses(*_: object, **__: object) -> None:
        raise RuntimeError("Dynamo is not supported on Python 3.14+")

    monkeypatch.setattr(torch, "compile", refuses)
    inputs, told = tiny_inputs(64, 64), []
    made = decoder.decode(*inputs, views=1, compiled=True, tell=told.append)
    assert torch.equal(made, decoder.decode(*inputs, views=1))
    assert "Dynamo is not supported on Python 3.14+" in told[0]
    decoder.decode(*inputs, views=1, compiled=True)  # Whom it concerns has been told.


def test_full_memory_is_no_failure_of_the_compiler(compiler, decoder):
    inputs, told = tiny_inputs(64, 64), []
    compiler.failure = MemoryError()
    made = decoder.decode(*inputs, views=1, compiled=True, tell=told.append)
    assert torch.equal(made, decoder.decode(*inputs, views=1))
    compiler.failure = None
    decoder.decode(*inputs, views=1, compiled=True, tell=told.append)
    assert len(compiler.shapes) == 2
    assert not told


def test_what_does_not_fit_is_not_compiled(compiler, decoder):
    inputs = tiny_inputs(64, 64)
    enough = 2 * 4 * decoder.net.held(64 * 64, whole=True)  # A CPU gives half of what is free.
    small = decoder.decode(*inputs, views=1, compiled=True, free=enough - 8)
    parts = decoder.decode(*tiny_inputs(128, 64), views=1, compiled=True, tile=64)
    assert parts.shape == (1, 4, 128, 64)
    assert not compiler.asked
    made = decoder.decode(*inputs, views=1, compiled=True, free=enough)
    assert compiler.asked
    torch.testing.assert_close(made, small, rtol=0, atol=1e-5)


def test_a_few_shapes_are_compiled_and_further_ones_are_not(compiler, decoder):
    sides = [64, 128, 192, 256, 320, 64]
    for side in sides:
        decoder.decode(*tiny_inputs(64, side), views=1, compiled=True)
    assert [width for *_, width in compiler.shapes] == [64, 128, 192, 256, 64]


def test_a_type_is_a_shape_of_its_own(compiler, decoder):
    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        decoder.net.to(dtype)
        for side in (64, 128, 192):
            decoder.decode(*tiny_inputs(64, side), views=1, compiled=True)
    assert [width for *_, width in compiler.shapes] == [64, 128, 192, 64, 64, 128, 192]


def test_an_interrupt_between_views_ends_it(compiler, decoder):
    inputs = tiny_inputs(64, 64)
    made = decoder.decode(*inputs, compiled=True, on_view=lambda done, _: done < 3)
    assert len(compiler.shapes) == 3
    torch.testing.assert_close(made, decoder.decode(*inputs, views=3), rtol=0, atol=1e-5)


def test_overflow_is_seen(compiler, decoder):
    pixels, latent = tiny_inputs(64, 64)
    latent[0, 0, 3, 3] = float("inf")
    with pytest.raises(Exception, match="NaN or infinity"):
        decoder.decode(pixels, latent, compiled=True)
    assert len(compiler.shapes) == 1


@pytest.fixture
def nothing_compiled_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_compiled_yet")
def test_what_pytorch_compiles_makes_what_strips_make():
    """It takes a C++ compiler, which is here wherever a wheel can be built."""
    from torch._dynamo.utils import counters  # It takes seconds.

    weights = tiny_decoder_weights(seed=3, layout=LAYOUTS["one block"])
    decoder, told = TransparentDecoder.from_state_dict(weights), []
    inputs, graphs = tiny_inputs(64, 128), counters["stats"]["unique_graphs"]
    made = decoder.decode(*inputs, views=5, compiled=True, tell=told.append)
    assert not told
    assert counters["stats"]["unique_graphs"] == graphs + 2  # One for each format.
    expected = decoder.decode(*inputs, views=5)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_compiled_yet")
def test_a_compiler_that_is_not_there(monkeypatch, decoder):
    """PyTorch's own error for it, not one that stands in."""
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/no/such/compiler",))
    inputs, told = tiny_inputs(64, 64), []
    made = decoder.decode(*inputs, views=1, compiled=True, tell=told.append)
    assert torch.equal(made, decoder.decode(*inputs, views=1))
    assert len(told) == 1
    assert "compiler" in told[0].split("so it computed")[0]
