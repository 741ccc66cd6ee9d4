"""What each adapter's UNet computes with a method, beside what the method is defined to make."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from adapters import each, run
from host_run import BLOCK, HIGH, LOW, differs, diffs, near
from thinned import thinned

from lib_layerdiffuse.errors import (
    ArchMismatchError,
    ChecksumError,
    HostError,
)
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.weights.patches import CONV_IN, Diff, LoRA

__all__ = ["run"]
FG, JOINT = find_method("fg_attn_sd15"), find_method("joint_sd15")
BG_TO_FG = find_method("bg_to_fg_sd15")
SDXL_FG, TWO_PICTURES = find_method("fg_attn_sdxl"), find_method("fg_blended_to_bg_sdxl")
PAIR = (JOINT, TWO_PICTURES)
QUERIES = f"{BLOCK}.attn1.to_q.weight"
ADAPTER_MERGES = {"diffusers": "nobody but the adapter puts patches into the UNet"}
NO_FRONT_END = {
    "comfy": "it shows what is raised on the node",
    "diffusers": "no WebUI stands around it that would swallow an error",
}


class TestAsDefined:
    @each(FG, BG_TO_FG, JOINT, TWO_PICTURES)
    @pytest.mark.parametrize("strength", thinned([0.4, 1.0], 2))
    def test_the_files_weights_at_their_strength(self, run, method, strength):
        """On every row: those of two sets, with and without prompts, are one call's."""
        given = run.injection(method, strength=strength)
        found = run.open(method).load(given).call(HIGH, method.frames, sets=2)
        run.end()
        wanted = run.defined(given, run.tensors(method), {}).call(HIGH, method.frames, sets=2)
        near(found, wanted, 1e-4)

    @each()
    def test_every_kind_of_layer_and_parameter(self, run):
        run.open(SDXL_FG)
        given = run.injection(SDXL_FG, patches=diffs(run), strength=0.7)
        run.load(given)
        found = run.call(HIGH)
        run.end()
        near(found, run.defined(given, {}, {}).call(HIGH), 2e-5)
        for left_out in given.patches:  # Each changes the result by more than the tolerance.
            others = {key: patch for key, patch in given.patches.items() if key != left_out}
            less = run.injection(SDXL_FG, patches=others, strength=0.7)
            other = run.load(less).call(HIGH)
            run.end()
            changed = float((other - found).abs().max() / found.abs().max())
            assert changed > 5e-5, left_out

    @each(TWO_PICTURES)
    def test_no_strength_changes_nothing(self, run, method):
        plain = run.open(method).call(HIGH)
        near(run.load(run.injection(method, strength=0.0)).call(HIGH), plain)
        run.end()

    @each(BG_TO_FG)
    def test_the_control_image_counts(self, run, method):
        shown = run.attach(method).call(HIGH, method.frames)
        run.end()
        black = run.injection(method, control=-torch.ones(1, 3, 64, 64))
        differs(run.load(black).call(HIGH, method.frames), shown)
        run.end()


class TestRows:
    @each(*PAIR)
    def test_sets_and_conditions_may_come_one_by_one(self, run, method):
        run.attach(method)
        both = run.call(HIGH, method.frames, sets=2)
        alone = run.call(HIGH, method.frames, sets=2, negatives=False)
        first = slice(method.frames), slice(method.frames, None)
        by_set = [
            run.call(HIGH, method.frames, sets=2, negatives=False, part=part) for part in first
        ]
        run.end()
        near(both[: len(alone)], alone)
        near(torch.cat(by_set), alone)

    @each(JOINT)
    @pytest.mark.parametrize("negatives", [True, False])
    def test_broken_sets_are_refused(self, run, method, negatives):
        run.attach(method)
        with pytest.raises(HostError, match="whole sets of 3"):
            run.call(HIGH, frames=2, negatives=negatives)
        run.end()

    @each(JOINT)
    @pytest.mark.parametrize("rows", thinned([slice(3), slice(3, None)], 2))
    def test_whole_sets_taken_out_of_the_call_are_refused(self, run, method, rows):
        """They would be paired with other sets' prompts or control."""
        run.attach(method)
        hook = run.layer(f"{BLOCK}.attn1").register_forward_pre_hook(
            lambda _, given: (given[0][rows], *given[1:])
        )
        with pytest.raises(HostError, match=r"3 rows reach .* for 6"):
            run.call(HIGH, method.frames)
        hook.remove()
        run.end()
        run.assert_as_before(run.before)

    @each(TWO_PICTURES)
    def test_a_part_of_the_image_is_refused(self, run, method):
        run.attach(method)
        with pytest.raises(HostError, match="parts of the image"):
            run.denoise(torch.zeros(1, 4, 8, 4), HIGH, ["a"], ["b"])
        run.end()
        run.assert_as_before(run.before)

    @each(JOINT, but=NO_FRONT_END)
    def test_an_error_is_raised_as_the_front_end_wants_it(self, run, method):
        run.open(method, as_raised=lambda error: KeyError(error.message))
        run.load(run.injection(method))
        with pytest.raises(KeyError, match="whole sets of 3"):
            run.call(HIGH, frames=2)


class TestStopAt:
    @each(*PAIR)
    def test_it_goes_off_and_on_within_a_run(self, run, method):
        frames = method.frames
        run.open(method)
        plain = {done: run.call(done, frames) for done in (HIGH, LOW)}
        run.load(run.injection(method, stop_at=0.5))
        acting = run.call(HIGH, frames)
        differs(acting, plain[HIGH])
        assert torch.equal(run.call(LOW, frames), plain[LOW])
        near(run.call(HIGH, frames), acting)
        assert run.attachment.calls == 3
        run.end()

    @each(SDXL_FG)
    @pytest.mark.parametrize(
        ("stop_at", "done", "acts"),
        thinned(
            [
                (0.5, 0.5, True),
                (0.25, 0.251, False),
                (0.5, 0.501, False),
                (0.5, 0.499, True),
                (1.0, 1.0, True),
                (0.0, 0.0, False),
            ],
            2,
        ),
    )
    def test_where_it_ends(self, run, method, stop_at, done, acts):
        plain = run.open(method).call(done)
        found = run.load(run.injection(method, stop_at=stop_at)).call(done)
        assert torch.equal(found, plain) is not acts
        run.end()

    @each(*PAIR)
    @pytest.mark.parametrize("stop_at", [0.0, 1.0])
    def test_none_or_all_of_a_run(self, run, method, stop_at):
        plain = run.open(method).call(0.999, method.frames)
        found = run.load(run.injection(method, stop_at=stop_at)).call(0.999, method.frames)
        assert torch.equal(found, plain) is (stop_at == 0)
        assert run.attachment.calls == 1
        run.end()


class TestProjections:
    @each(JOINT)
    @pytest.mark.parametrize("how", ["forward", "hook"])
    def test_one_that_another_has_wrapped_runs_as_it_is(self, run, method, how):
        plain = run.attach(method).call(HIGH, method.frames)
        layer = run.layer(f"{BLOCK}.attn1.to_q")
        if how == "forward":
            layer.forward = lambda x, forward=layer.forward: 2 * forward(x)
        else:
            hook = layer.register_forward_hook(lambda *parts: 2 * parts[-1])
        differs(run.call(HIGH, method.frames), plain)
        if how == "forward":
            del layer.forward
        else:
            hook.remove()
        run.end()


class TestFilesThatDoNotFit:
    @each()
    @pytest.mark.parametrize(
        "key",
        ["diffusion_model.no.such.weight", f"{BLOCK}.norm1.weights", f"{BLOCK}.attn1.to_q.bias"],
    )
    def test_keys_that_the_unet_lacks_are_named_before_it_runs(self, run, key):
        run.open(SDXL_FG)
        patches = run.injection(SDXL_FG).patches | {key: Diff(torch.zeros(2, 2))}
        with pytest.raises(ChecksumError, match=rf"lacks 1 of its layers, such as {key}"):
            run.host.attach(run.injection(SDXL_FG, patches=patches))
        run.assert_as_before(run.before)

    @each()
    @pytest.mark.parametrize(
        "what", thinned(["other", "wider", "narrow LoRA", "broken LoRA", "conv in"], 2)
    )
    def test_other_shapes_are_named_before_it_runs(self, run, what):
        run.open(SDXL_FG)
        (wide, narrow), key = run.layer(QUERIES.removesuffix(".weight")).weight.shape, QUERIES
        patch = {
            "other": Diff(torch.zeros(2, 2)),
            "wider": Diff(torch.zeros(wide, narrow + 4)),
            "narrow LoRA": LoRA(torch.zeros(wide, 2), torch.zeros(2, narrow // 2)),
            "broken LoRA": LoRA(torch.zeros(wide, 2), torch.zeros(3, narrow)),
        }.get(what)
        if patch is None:
            key = CONV_IN
            patch = Diff(torch.zeros(wide, 3, 3, 3))
        with pytest.raises(ChecksumError, match=rf"{key} has the shape .* in the UNet"):
            run.host.attach(run.injection(SDXL_FG, patches={key: patch}))
        run.assert_as_before(run.before)

    @each()
    def test_a_unet_without_all_attention_layers_is_refused(self, run):
        run.open(SDXL_FG)
        parent, _, name = _path_of(run, run.layer(BLOCK)).rpartition(".")
        owner, block = run.net.get_submodule(parent), run.layer(BLOCK)
        owner._modules[name] = torch.nn.Identity()
        try:
            with pytest.raises(ArchMismatchError, match="lacks some of SD1"):
                run.host.attach(run.injection(JOINT))
        finally:
            owner._modules[name] = block
        run.assert_as_before(run.before)


def _path_of(run, module):
    return next(name for name, one in run.net.named_modules() if one is module)


class TestAcceptedButNotMerged:
    """Told by an error in the call, or by a call that does not count: then the front end tells."""

    @each(but=ADAPTER_MERGES)
    @pytest.mark.parametrize("kinds", ["LoRAs", "differences"])
    def test_all_that_is_left_out(self, run, monkeypatch, kinds):
        run.open(SDXL_FG)
        more = {"patches": diffs(run)} if kinds == "differences" else {}
        with monkeypatch.context() as patch, suppress(HostError):
            run.load_without(run.injection(SDXL_FG, **more), patch, None)
            run.call(HIGH)
            assert run.attachment.calls == 0
        run.end()
        run.assert_as_before(run.before)

    @each(but=ADAPTER_MERGES)
    def test_one_kind_that_is_left_out(self, run, monkeypatch):
        """Such as the wider first convolution, where the host wants to be told to pad."""
        run.open(TWO_PICTURES)
        with monkeypatch.context() as patch:
            run.load_without(run.injection(TWO_PICTURES), patch, CONV_IN)
            with pytest.raises(HostError, match=r"input_blocks\.0\.0"):
                run.call(HIGH)
        run.end()
        run.assert_as_before(run.before)
