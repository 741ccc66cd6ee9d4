"""Other extensions' patches of the UNet's attention: rows stay paired, or the job is refused."""

from __future__ import annotations

import copy
from importlib import import_module
from types import SimpleNamespace

import patcher_run
import pytest
import sharing as reference
import torch
from patcher_run import injection, near
from started_webui import WebUI, request
from thinned import thinned
from tiny_weights import method_file
from torch.nn import functional as F

from lib_layerdiffuse.errors import MissingCapabilityError
from lib_layerdiffuse.methods import find_method

JOINT, TO_FG = find_method("joint_sd15"), find_method("bg_to_fg_sd15")
PLACE = "/webui/extensions/sd-grouping/scripts/grouping.py"


SIGMA = 10.0


@pytest.fixture
def run(webui):
    return Run()


class Run(patcher_run.Run):
    """A checkpoint of a method's family, and calls of its UNet."""

    def latents(self, method, sets=1):
        generator = torch.Generator().manual_seed(3)
        return torch.randn(sets * method.frames, 4, 8, 8, generator=generator)

    def call(self, unet, method, sets):
        x = self.latents(method, sets)
        texts = [self.tiny.conditioning([name] * len(x)) for name in ("negative", "prompt")]
        return self.tiny.call_unet(unet, x, SIGMA, texts)

    def patched(self, method, *patches, sets=1):
        """Returns a UNet call of a method with other extensions' patches, once checked."""
        self.open(method)
        for name, patch in patches:
            self.plain.set_model_patch(patch, name)
        unet = self.checkpoint.forge_objects.unet = self.host.attach(injection(method)).unet
        self.tiny.load_for_sampling(unet)
        self.host.check_patched(method, self.latents(method, sets))
        return self.call(unet, method, sets)

    def defined(self, method, *patches, sets=1):
        """Returns the same, computed as the method is defined."""
        self.open(method)
        twin = copy.deepcopy(self.plain.model)
        file, control = method_file(method), injection(method).control
        reference.use_reference(twin.diffusion_model, file, method.frames, 1.0, control)
        options = {"transformer_options": {"patches": {name: [patch] for name, patch in patches}}}
        return self.call(SimpleNamespace(model=twin, model_options=options), method, sets)


def regions(tiny, prompts, masks):
    """Returns the two patches of an extension that gives each region of an image a prompt.

    As sd-forge-couple does: rows with a prompt come once for their own and once for each region's,
    one is added where the rows are odd, and the regions are put together by their masks.

    Args:
        tiny: The stand-in for a checkpoint.
        prompts: Each region's.
        masks: Each region's part of the image, `h w`, which add up to 1.
    """
    texts = [tiny.conditioning([prompt]) for prompt in prompts]
    masks = torch.stack([torch.zeros_like(masks[0]), *masks])

    def before(q, k, v, options):
        rows = len(q) // len(options["cond_or_uncond"])
        queries, keys = [], []
        for kind, own, text in zip(
            options["cond_or_uncond"], q.split(rows), k.split(rows), strict=True
        ):
            times = 1 if kind == 1 else len(masks)
            queries += [own] * times
            keys += [text, *(one.to(k).repeat(rows, 1, 1) for one in texts[: times - 1])]
        queries, keys = torch.cat(queries), torch.cat(keys)
        if len(queries) % 2:
            queries, keys = (torch.cat([t, torch.zeros_like(t[:1])]) for t in (queries, keys))
        return queries, keys, keys

    def after(out, options):
        kinds = options["cond_or_uncond"]
        rows = options["original_shape"][0] // len(kinds)
        scale = (masks[0].numel() / out.shape[1]) ** 0.5
        size = [round(side / scale) for side in masks.shape[1:]]
        weights = F.interpolate(masks[None], size=size, mode="nearest")[0].flatten(1)
        parts = list(out.split(rows))
        made = []
        for kind in kinds:
            if kind == 1:
                made.append(parts.pop(0))
                continue
            own = torch.stack([parts.pop(0) for _ in masks])
            made.append((own * weights[:, None, :, None]).sum(0))
        return torch.cat(made)

    return before, after


def halves():
    left = torch.zeros(8, 8)
    left[:, :4] = 1
    return [left, 1 - left]


def as_patches(before, after):
    return ("attn2_patch", before), ("attn2_output_patch", after)


METHODS = pytest.mark.parametrize("method", [JOINT, TO_FG], ids=lambda m: m.id)


@METHODS
@pytest.mark.parametrize("sets", thinned([2, 1], 2))
class TestRegions:
    @pytest.mark.parametrize("number", [2, 3])  # Three make the rows of one set odd.
    @pytest.mark.slow
    def test_whose_prompts_are_the_main_one_change_nothing(self, run, method, sets, number):
        masks = [torch.full((8, 8), 1 / number)] * number
        both = as_patches(*regions(run.tiny, ["prompt"] * number, masks))
        near(run.patched(method, *both, sets=sets), run.patched(method, sets=sets))

    def test_are_computed_as_the_method_is_defined(self, run, method, sets):
        both = as_patches(*regions(run.tiny, ["a cat", "a dog"], halves()))
        result, plain = run.patched(method, *both, sets=sets), run.patched(method, sets=sets)
        assert (result - plain).abs().max() > 1e-3 * plain.abs().max()
        near(result, run.defined(method, *both, sets=sets))


@METHODS
def test_patches_that_leave_things_as_they_are_change_nothing(run, method):
    """The host then hands over a layer's own tokens three times, and control counts in each."""

    def copies(q, k, v, options):
        return q.clone(), k.clone(), v.clone()

    result = run.patched(method, ("attn1_patch", copies), ("attn2_patch", copies))
    near(result, run.patched(method))


def tiles(q, k, v, options):
    """Each quarter of the tokens by itself."""

    def quarters(tokens):
        if tokens.shape[1] % 4:
            return tokens.repeat_interleave(4, 0)
        return tokens.unflatten(1, (4, -1)).flatten(0, 1)

    return quarters(q), quarters(k), quarters(v)


def merged(q, k, v, options):
    return q[:, ::2], k, v


def by_turns(q, k, v, options):
    """Each row twice, the twins beside each other."""
    return *(t.repeat_interleave(2, 0) for t in (q, k)), v.repeat_interleave(2, 0)


def swapped(q, k, v, options):
    return q.flip(0), k, v


def mixed_up(q, k, v, options):
    return q.flip(1), k, v


def one_each(q, k, v, options):
    return q[:2], k[:2], v[:2]


GROUPINGS = (tiles, merged, by_turns, swapped, mixed_up, one_each)


def placed(patch, place=PLACE):
    """Returns a patch as if it were an extension's."""

    def twin(*args):
        return patch(*args)

    twin.__code__ = twin.__code__.replace(co_filename=place)
    return twin


def kept(q, k, v, options):
    return 2 * q, k, v


def only_in_the_middle(patch):
    return lambda q, k, v, options: (
        patch(q, k, v, options) if options["block"] == ("middle", 0) else (q, k, v)
    )


class TestGroupings:
    def check(self, run, method, patch, name="attn1_patch", size=8):
        run.open(method)
        run.plain.set_model_patch(patch, name)
        run.host.check_patched(method, torch.zeros(method.frames, 4, size, size))

    @pytest.mark.parametrize("patch", GROUPINGS, ids=lambda patch: patch.__name__)
    @pytest.mark.parametrize("name", ["attn1_patch", "attn2_patch"])
    def test_are_refused_by_their_extensions_name(self, run, patch, name):
        with pytest.raises(MissingCapabilityError, match="with sd-grouping, which would") as caught:
            self.check(run, JOINT, placed(patch), name)
        assert "Turn off sd-grouping" in caught.value.hint

    @pytest.mark.parametrize("patch", [tiles, merged, mixed_up], ids=lambda patch: patch.__name__)
    def test_are_refused_where_a_control_image_counts(self, run, patch):
        with pytest.raises(MissingCapabilityError, match="regroup the parts"):
            self.check(run, TO_FG, placed(patch))

    def test_in_one_block_alone_are_refused(self, run):
        with pytest.raises(MissingCapabilityError, match="regroup the parts"):
            self.check(run, JOINT, only_in_the_middle(tiles), size=32)

    @pytest.mark.parametrize(
        ("place", "name"),
        [
            ("/webui/extensions-builtin/sd_forge_x/lib/a.py", "sd_forge_x"),
            ("/home/extensions/forge/extensions/y/a.py", "y"),
            ("/webui/backend/misc/tome.py", __name__.rpartition(".")[-1]),
        ],
    )
    def test_the_name_is_of_a_folder_or_module(self, run, place, name):
        with pytest.raises(MissingCapabilityError, match=f"work with {name}, "):
            self.check(run, JOINT, placed(tiles, place))

    @pytest.mark.parametrize("patch", GROUPINGS, ids=lambda patch: patch.__name__)
    @pytest.mark.parametrize("id", ["fg_attn_sd15", "fg_attn_sdxl", "fg_to_blended_sdxl"])
    def test_are_no_matter_where_no_layers_meet(self, run, patch, id):
        self.check(run, find_method(id), patch)

    def test_other_values_of_as_many_rows_are_let_through(self, run):
        self.check(run, JOINT, kept)

    def test_what_fails_outside_of_a_run_is_let_through(self, run):
        self.check(run, JOINT, lambda *_: 1 / 0)

    def test_checking_leaves_nothing_behind(self, run):
        def draws(q, k, v, options):
            options["drawn"] = torch.rand(1)
            return q, k, v

        state = torch.random.get_rng_state()
        self.check(run, JOINT, draws)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert "drawn" not in run.plain.model_options["transformer_options"]

    @pytest.mark.parametrize("method", [JOINT, find_method("fg_attn_sd15")], ids=lambda m: m.id)
    def test_a_modules_own_forward_is_refused(self, run, method):
        """As sd-webui-regional-prompter sets it, in the modules themselves."""
        run.open(method)
        net = run.plain.model.diffusion_model
        net.output_blocks[4][1].transformer_blocks[0].attn2.forward = placed(tiles)
        with pytest.raises(MissingCapabilityError, match="sd-grouping, which would replace"):
            run.host.check_patched(method, torch.zeros(method.frames, 4, 8, 8))


class TestJobs:
    @pytest.fixture
    def ui(self, webui, models, tmp_path):
        return WebUI(models, tmp_path / "outputs")

    @pytest.mark.parametrize("order", ["before", "after"])
    @pytest.mark.parametrize("hires", [False, True])
    def test_end_before_sampling_whoever_comes_first(self, ui, order, hires):
        def patch(self, p, *_, **__):
            unet = p.sd_model.forge_objects.unet.clone()
            unet.set_model_patch(placed(tiles), "attn1_patch")
            p.sd_model.forge_objects.unet = unet

        script = ui.new_script(process_before_every_sampling=patch)
        kind = import_module("hires_job").HiresProcessing if hires else None
        p = ui.job(JOINT, request(JOINT), kind=kind, **{order: [script]})
        with pytest.raises(MissingCapabilityError, match="sd-grouping"):
            ui.run(p)
        assert not p.sampled_with

    def test_without_a_grouping_go_on(self, ui):
        def patch(self, p, *_, **__):
            unet = p.sd_model.forge_objects.unet.clone()
            unet.set_model_patch(lambda q, k, v, options: (q, k, v), "attn1_patch")
            p.sd_model.forge_objects.unet = unet

        script = ui.new_script(process_before_every_sampling=patch)
        result = ui.run(ui.job(JOINT, request(JOINT), after=[script]))
        assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"]
