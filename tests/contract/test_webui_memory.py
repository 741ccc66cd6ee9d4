"""What jobs leave in the host's memory, and jobs that are stopped."""

from __future__ import annotations

import gc
from importlib import import_module
from weakref import ref

import numpy as np
import pytest
from started_webui import WebUI, arrays, request
from thinned import thinned

from lib_layerdiffuse import pipeline
from lib_layerdiffuse.errors import (
    DownloadError,
    HostError,
    MissingCapabilityError,
    WeightsNotFoundError,
)
from lib_layerdiffuse.methods import find_method
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing
from lib_layerdiffuse.weights.store import WeightStore

JOINT, FG_SD15 = find_method("joint_sd15"), find_method("fg_attn_sd15")


@pytest.fixture
def ui(webui, models, tmp_path):
    return WebUI(models, tmp_path / "outputs", session=pipeline.Session)


def first_tensor(unet):
    """Returns a tensor of the first patch on a UNet, in whichever form its host keeps it."""
    by_name = getattr(unet, "lora_patches", None)
    patches = unet.patches if by_name is None else next(iter(by_name.values()))
    patch = next(iter(patches.values()))[0][1]
    return patch[1][0] if isinstance(patch, tuple) else patch.weights[0]


@pytest.mark.parametrize("webui_name", thinned(["forge", "neo"], 2))
class TestMemory:
    def sharing(self):
        loaded = import_module("backend.memory_management").current_loaded_models
        held = [entry for entry in loaded if entry.model is not None]
        return [entry for entry in held if isinstance(entry.model.model, AttentionSharing)]

    @pytest.fixture(autouse=True)
    def _without_a_collector(self, ui):
        """The collector may come many jobs later: nothing large may wait for it."""
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    @pytest.mark.parametrize("dropped", [False, True], ids=["kept", "dropped by the host"])
    @pytest.mark.slow
    def test_the_host_keeps_no_sharing_module_that_is_used_no_more(self, ui, dropped):
        ui.generate(JOINT)
        [entry] = self.sharing()
        net = ref(entry.model.model)
        memory = import_module("backend.memory_management")
        if dropped:  # As it does for another checkpoint.
            memory.current_loaded_models.clear()
        ui.generate(find_method("fg_attn_sd15"), checkpoint=ui.checkpoint)
        assert dropped or entry.model is None or entry.model.unloaded
        assert entry not in self.sharing()
        del entry
        memory.loaded.clear()
        assert net() is None, "something still holds it"

    def test_nothing_holds_a_methods_weights_that_are_used_no_more(self, ui, monkeypatch):
        host = import_module("lib_layerdiffuse.hosts.patchers").PatcherHost
        attach, tensors = host.attach, []

        def noting(of, injection):
            attachment = attach(of, injection)
            tensors.append(ref(first_tensor(attachment.unet)))
            return attachment

        monkeypatch.setattr(host, "attach", noting)
        ui.generate(find_method("fg_attn_sdxl"))
        ui.generate(find_method("fg_conv_sdxl"), checkpoint=ui.checkpoint)
        import_module("backend.memory_management").loaded.clear()
        assert tensors[0]() is None, "something still holds it"

    def test_the_other_family_needs_none(self, ui):
        ui.generate(JOINT)
        ui.generate(find_method("fg_attn_sdxl"))
        assert self.sharing() == []

    def test_the_module_in_use_stays(self, ui):
        ui.generate(JOINT)
        [before] = self.sharing()
        ui.generate(JOINT)
        [after] = self.sharing()
        assert after.model is before.model
        assert not hasattr(after.model, "unloaded")


class TestReplacedUNet:
    @staticmethod
    def replace(_script, p, *_, **__):
        unet = p.sd_model.forge_objects.unet.clone()
        unet.set_model_unet_function_wrapper(
            lambda apply_model, args: apply_model(args["input"], args["timestep"], **args["c"])
        )
        p.sd_model.forge_objects.unet = unet

    @pytest.mark.parametrize("place", ["before", "after"])
    def test_the_method_goes_on_over_it(self, ui, place):
        other = ui.new_script(process_before_every_sampling=self.replace)
        wanted = arrays(ui.generate(JOINT)[0])
        got = arrays(ui.generate(JOINT, **{place: [other]})[0])
        assert all(map(np.array_equal, got, wanted))

    def test_another_sampler_ends_the_job(self, ui):
        def replace(self, p, *_, **__):
            p.sampler = type(p.sampler)()

        other = ui.new_script(process_before_every_sampling=replace)
        p = ui.job(JOINT, request(JOINT), after=[other])
        with pytest.raises(HostError, match="another extension has replaced the UNet"):
            ui.run(p)
        assert ui.saved() == []

    def test_what_comes_later_is_refused_by_name_before_the_first_step(self, ui):
        def replace(self, p, *_, **__):
            unet = p.sd_model.forge_objects.unet.clone()
            replaced = {"patches_replace": {"attn1": {("middle", 0): lambda q, k, v, o: v}}}
            unet.model_options["transformer_options"] = replaced
            p.sd_model.forge_objects.unet = unet

        other = ui.new_script(
            process_before_every_sampling=replace, title=lambda self: "Guidance of another kind"
        )
        other.filename = __file__
        p = ui.job(JOINT, request(JOINT), after=[other])
        with pytest.raises(MissingCapabilityError, match="with Guidance of another kind, which"):
            ui.run(p)
        assert p.sampled_with == []

    def test_a_stop_before_the_first_step_is_no_error(self, ui):
        def stop(self, p, *_, **__):
            ui.shared.state.interrupted = True

        other = ui.new_script(process_before_every_sampling=stop)
        result, _ = ui.generate(JOINT, after=[other])
        assert [image.mode for image in result.images] == ["RGBA", "RGB", "RGB"]


class TestStops:
    @pytest.mark.parametrize("number", [8, "8"])  # Programs set numbers as text, too.
    def test_a_stop_while_decoding_keeps_the_views_seen(self, ui, monkeypatch, number):
        ui.shared.opts.data["layerdiffuse_decoder_views"] = number
        views, told = [], []

        def spy(*args, on_view, **more):
            def stop_after_two(done, total):
                views.append(done)
                told.append(ui.shared.state.textinfo)
                ui.shared.state.interrupted = done == 2
                return on_view(done, total)

            return pipeline.decode(*args, on_view=stop_after_two, **more)

        monkeypatch.setattr(ui.script_module.results, "decode", spy)
        result, _ = ui.generate(FG_SD15)
        assert views == [1, 2]
        assert told == [f"LayerDiffuse: transparency, view {n} of 8" for n in (1, 2)]
        assert result.images[0].mode == "RGBA"
        assert ui.shared.state.textinfo is None
        (note,) = result.extra_generation_params["layerdiffusion_notes"]
        assert "stopped after 2 of 8 views" in note

    def test_nothing_is_told_of_a_decoding_that_was_not_stopped(self, ui):
        result, _ = ui.generate(FG_SD15)
        notes = result.extra_generation_params.get("layerdiffusion_notes", [])
        assert not any("stopped" in note for note in notes)

    def test_what_is_slow_is_told_and_taken_away(self, ui, monkeypatch):
        told = []

        def spy(session, settings):
            told.append(ui.shared.state.textinfo)
            return weights(session, settings)

        weights = pipeline.Session.weights
        monkeypatch.setattr(pipeline.Session, "weights", spy)
        ui.generate(JOINT)
        assert told[0] == "LayerDiffuse: loading the weights"
        assert ui.shared.state.textinfo is None

    @pytest.mark.parametrize("stop", ["interrupted", "skipped", "stopping_generation"])
    def test_a_stopped_download_ends_the_job_before_sampling(self, ui, monkeypatch, stop):
        def ensure(store, file):
            setattr(ui.shared.state, stop, True)
            store.on_progress(file.filename, 1 << 20, 4 << 20)

        monkeypatch.setattr(WeightStore, "ensure", ensure)
        p = ui.job(JOINT, request(JOINT))
        with pytest.raises(DownloadError, match="stopped at 25%"):
            ui.run(p)
        assert p.sampled_with == []
        assert ui.shared.state.textinfo is None

    def test_progress_of_a_download_is_shown_and_it_can_be_stopped(self, ui):
        show = import_module("lib_layerdiffuse.webui.job.progress").show_download
        show("a.safetensors", 1 << 20, 4 << 20)
        assert ui.shared.state.textinfo == "LayerDiffuse: downloading a.safetensors, 25%"
        show("a.safetensors", 3 << 20, None)
        assert ui.shared.state.textinfo.endswith("3 MiB")
        ui.shared.state.interrupted = True
        with pytest.raises(WeightsNotFoundError.__base__, match="stopped at 50%"):
            show("a.safetensors", 1, 2)
