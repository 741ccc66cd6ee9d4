"""Whatever happens with a method, each adapter leaves its host's UNet bit for bit as it was."""

from __future__ import annotations

import pytest
import torch
from adapters import each, run
from host_run import BLOCK, HIGH, LOW, differs, lora, near, same
from thinned import thinned

from lib_layerdiffuse.methods import find_method

__all__ = ["run"]
FG, JOINT = find_method("fg_attn_sd15"), find_method("joint_sd15")
SDXL_FG, TWO_PICTURES = find_method("fg_attn_sdxl"), find_method("fg_blended_to_bg_sdxl")
KINDS = (JOINT, FG, find_method("bg_to_fg_sd15"), SDXL_FG, TWO_PICTURES)
PAIR = (JOINT, TWO_PICTURES)
NOT_LATER = {"diffusers": "LoRAs are in the checkpoint from its loading to its end"}


class TestAfter:
    @each(*KINDS)
    def test_a_run(self, run, method):
        frames = method.frames
        plain = run.open(method).call(HIGH, frames)
        before = run.snapshot()
        run.load(run.injection(method))
        assert run.attachment.unet is run.unet
        differs(run.call(HIGH, frames), plain)
        run.end()
        run.assert_as_before(before)
        assert torch.equal(run.call(HIGH, frames), plain)
        assert run.attachment.calls == 1

    @each(*PAIR)
    def test_no_call(self, run, method):
        run.attach(method).end()
        run.assert_as_before(run.before)
        assert run.attachment.calls == 0

    @each(*PAIR)
    def test_detaching_twice(self, run, method):
        run.attach(method).call(HIGH, method.frames)
        run.attachment.detach()
        before = run.snapshot()
        run.attachment.detach()
        assert same(run.snapshot(), before)
        run.end()
        run.assert_as_before(run.before)

    @each(*KINDS)
    @pytest.mark.parametrize("error", thinned([ZeroDivisionError, KeyboardInterrupt], 2))
    def test_an_error_or_interrupt_inside_the_call(self, run, method, error):
        def fail(*_):
            raise error

        run.attach(method)
        hook = run.last_layer().register_forward_pre_hook(fail)
        with pytest.raises(error):
            run.call(HIGH, method.frames)
        hook.remove()
        run.end()
        run.assert_as_before(run.before)

    @each(*PAIR)
    @pytest.mark.parametrize("error", thinned([MemoryError, KeyboardInterrupt], 2))
    def test_an_error_or_interrupt_in_attaching(self, run, method, error):
        run.open(method)
        with pytest.MonkeyPatch.context() as patch:
            run.break_attaching(patch, error)
            with pytest.raises(error):
                run.host.attach(run.injection(method))
        run.assert_as_before(run.before)

    @each(SDXL_FG, TWO_PICTURES)
    @pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
    def test_an_error_or_interrupt_halfway_in_merging(self, run, method, error):
        """A host that gives weights back after an error does not after an interrupt."""
        run.open(method)
        with pytest.MonkeyPatch.context() as patch:
            run.break_merging(patch, error)
            with pytest.raises(error):
                run.load(run.injection(method)).call(HIGH)
        run.end()
        run.assert_as_before(run.before)

    @each(*PAIR)
    def test_a_method_that_has_stopped(self, run, method):
        run.attach(method, stop_at=0.5)
        for done in (HIGH, LOW):
            run.call(done, method.frames)
        run.end()
        run.assert_as_before(run.before)

    @each(JOINT)
    def test_a_call_whose_rows_are_no_sets(self, run, method):
        run.attach(method)
        with pytest.raises(Exception, match="whole sets of 3"):
            run.call(HIGH, frames=2)
        run.end()
        run.assert_as_before(run.before)


class TestDuringTheCall:
    @each(*PAIR)
    def test_parameters_keep_their_names(self, run, method):
        """Or the host drops the user's LoRAs."""
        run.attach(method)
        names = []
        before = list(run.parameters())
        hook = run.last_layer().register_forward_pre_hook(lambda *_: names.extend(run.parameters()))
        run.call(HIGH, method.frames)
        hook.remove()
        run.end()
        assert names == before

    @each(JOINT)
    def test_another_extensions_forward_of_attention_comes_back(self, run, method):
        run.attach(method)
        module = run.layer(f"{BLOCK}.attn1")

        def theirs(x, **_):
            return x

        module.forward = theirs
        run.call(HIGH, method.frames)
        assert vars(module)["forward"] is theirs
        hook = run.last_layer().register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.call(HIGH, method.frames)
        hook.remove()
        run.end()
        assert vars(module)["forward"] is theirs
        del module.forward


class TestAUsersLora:
    @each(*PAIR)
    def test_the_method_acts_on_top_of_it(self, run, method):
        given = run.injection(method)
        plain = run.open(method).load(given).call(HIGH, method.frames)
        run.end()
        changes = lora(run)
        found = run.open(method, changes).load(given).call(HIGH, method.frames)
        run.end()
        wanted = run.defined(given, run.tensors(method), changes).call(HIGH, method.frames)
        near(found, wanted, 1e-4)
        differs(found, plain)

    @each(*PAIR)
    @pytest.mark.parametrize("stop_at", thinned([0.5, 1.0], 2))
    def test_the_unet_is_what_it_was_with_one(self, run, method, stop_at):
        changes = lora(run.open(method))
        run.open(method, changes)
        with_it = {done: run.call(done, method.frames) for done in (HIGH, LOW)}
        before = run.snapshot()
        run.load(run.injection(method, stop_at=stop_at))
        differs(run.call(HIGH, method.frames), with_it[HIGH])
        late = run.call(LOW, method.frames)
        assert torch.equal(late, with_it[LOW]) is (stop_at < 1)
        run.end()
        assert torch.equal(run.call(HIGH, method.frames), with_it[HIGH])
        run.assert_as_before(before)

    @each(*PAIR, but=NOT_LATER)
    @pytest.mark.parametrize("when", thinned(["before", "during", "after"], 2))
    def test_one_that_comes_or_goes(self, run, method, when):
        """Each job has its own: the plain ones before and after compute what they would alone."""
        frames = method.frames
        plain = run.open(method).call(HIGH, frames)
        changes = lora(run)
        run.put_lora(changes)
        with_it = run.call(HIGH, frames)
        differs(with_it, plain)
        run.put_lora(changes if when == "during" else None)
        run.load(run.injection(method, stop_at=0.5))
        for done in (HIGH, LOW):
            run.call(done, frames)
        run.end()
        run.put_lora(changes if when == "after" else None)
        assert torch.equal(run.call(HIGH, frames), with_it if when == "after" else plain)
        run.put_lora(None)
        assert torch.equal(run.call(HIGH, frames), plain)
