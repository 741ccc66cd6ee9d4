"""The core between settings and a host, with small weights and a host that only notes."""

from __future__ import annotations

import gc
import os
import shutil
import weakref

import numpy as np
import pytest
import torch
from tiny_codec import tiny_decoder_weights, tiny_encoder_weights, tiny_inputs
from tiny_weights import CountingStore, decoder_file, patch_file, put, put_method

from lib_layerdiffuse.codec.transparent import TransparentDecoder, TransparentEncoder
from lib_layerdiffuse.errors import (
    ArchMismatchError,
    BatchSizeError,
    ChecksumError,
    MissingLayerError,
    SettingsError,
    WeightsNotFoundError,
)
from lib_layerdiffuse.imaging.images import ResizeMode, pad_colours
from lib_layerdiffuse.methods import DECODERS, METHODS, Arch, Layer, PatchKind, find_method
from lib_layerdiffuse.nets.unet1024 import UNet1024
from lib_layerdiffuse.nets.unet_pass import MOST, WHOLE
from lib_layerdiffuse.pipeline import (
    Session,
    check_arch,
    conditioning_image,
    decode,
    encode,
    first_image,
    inject,
    layer_prompts,
    whole_sets,
)
from lib_layerdiffuse.settings.layer_settings import LayerSettings

JOINT, SDXL_FG = find_method("joint_sd15"), find_method("fg_attn_sdxl")
COLOURS = {Layer.FG: 0.25, Layer.BG: 0.5, Layer.BLENDED: 0.75}


class NotingHost:
    """Encodes an image to its mean, and notes what it is asked for."""

    scale = 0.5

    def __init__(self, free: int | None = None) -> None:
        self.free = free
        self.encoded: list[torch.Tensor] = []
        self.placed: list[torch.nn.Module] = []

    def encode(self, picture):
        self.encoded.append(picture)
        b, _, height, width = picture.shape
        return picture.mean() * torch.ones(b, 4, height // 8, width // 8)

    def posterior(self, picture):
        mean = self.encode(picture)
        return mean, torch.full_like(mean, 0.25)

    def vae_latent(self, latent):
        return latent / self.scale

    def sampler_latent(self, latent):
        return latent * self.scale

    def memory_errors(self):
        return ()

    def place(self, net, values, dtype=None):
        self.placed.append((net, values))
        return self.free


def grey(value, height=64, width=64, alpha=1.0):
    picture = np.full((height, width, 4), value, np.float32)
    picture[..., 3] = alpha
    return picture


def settings_for(method, **more):
    images = {f"{layer.value}_image": grey(COLOURS[layer]) for layer in method.inputs}
    return LayerSettings(enabled=True, method=method, **images | more)


@pytest.fixture(scope="module")
def all_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for method in METHODS:
        put_method(folder, method)
    return folder


@pytest.fixture
def session(all_files, tmp_path):
    return Session(CountingStore(shutil.copytree(all_files, tmp_path / "weights")))


class TestLayerPrompts:
    settings = LayerSettings(
        method=JOINT, fg_prompt="fg", blended_prompt="both", bg_negative_prompt="no bg"
    )

    def test_each_rows_own_prompt_comes_first(self):
        rows = layer_prompts(self.settings, ["a", "b", "c"], negative=False)
        assert rows == ["fg, a", "b", "both, c"]

    def test_every_set_gets_them(self):
        rows = layer_prompts(self.settings, ["a"] * 6, negative=False)
        assert rows == ["fg, a", "a", "both, a"] * 2

    def test_negative_prompts_are_apart(self):
        assert layer_prompts(self.settings, ["n"] * 3, negative=True) == ["n", "no bg, n", "n"]

    def test_an_empty_main_prompt_leaves_no_comma(self):
        assert layer_prompts(self.settings, [""] * 3, negative=False) == ["fg", "", "both"]

    def test_the_frames_order_is_the_methods(self):
        settings = LayerSettings(
            method=find_method("fg_to_bg_sd15"), fg_prompt="f", bg_prompt="g", blended_prompt="b"
        )
        assert layer_prompts(settings, ["x", "y"], negative=False) == ["g, x", "b, y"]

    def test_methods_of_one_picture_have_none(self):
        settings = LayerSettings(method=SDXL_FG, fg_prompt="fg")
        assert layer_prompts(settings, ["a", "b"], negative=False) == ["a", "b"]

    @pytest.mark.parametrize("idle", [{"strength": 0.0}, {"stop_at": 0.0}])
    def test_a_method_that_does_not_act_has_none(self, idle):
        settings = LayerSettings(method=JOINT, fg_prompt="fg", **idle)
        assert layer_prompts(settings, ["a"] * 3, negative=False) == ["a"] * 3

    @pytest.mark.parametrize("rows", [1, 2, 4])
    def test_broken_sets_are_refused(self, rows):
        with pytest.raises(BatchSizeError, match=f"{rows} prompts, which make no whole sets of 3"):
            layer_prompts(self.settings, ["a"] * rows, negative=False)

    def test_the_hosts_list_is_not_changed(self):
        prompts = ["a", "b", "c"]
        for strength in (0.0, 1.0):
            settings = LayerSettings(method=JOINT, fg_prompt="fg", strength=strength)
            assert layer_prompts(settings, prompts, negative=False) is not prompts
        assert prompts == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("method", "pictures", "sets"),
    [(JOINT, 1, 1), (JOINT, 3, 1), (JOINT, 4, 2), (JOINT, 6, 2), (SDXL_FG, 5, 5)],
)
def test_whole_sets_are_rounded_up(method, pictures, sets):
    assert whole_sets(method, pictures) == sets


class TestCheckArch:
    def test_the_methods_family_passes(self):
        check_arch(JOINT, Arch.SD15)
        check_arch(SDXL_FG, Arch.SDXL)

    @pytest.mark.parametrize(
        ("method", "arch", "words"),
        [
            (JOINT, Arch.SDXL, "needs an SD1.5 checkpoint, but an SDXL one is loaded"),
            (SDXL_FG, Arch.SD15, "or a method marked SD1.5"),
            (SDXL_FG, None, "one of another family"),
        ],
    )
    def test_another_family_is_refused(self, method, arch, words):
        with pytest.raises(ArchMismatchError) as caught:
            check_arch(method, arch)
        assert words in str(caught.value)
        assert caught.value.field == "method"


class TestConditioningPicture:
    def test_alpha_is_flattened_on_grey(self):
        for alpha, wanted in ((0.0, 0.5), (0.5, 0.75), (1.0, 1.0)):
            settings = LayerSettings(fg_image=grey(1.0, alpha=alpha))
            picture = conditioning_image(settings, Layer.FG, 64, 64)
            assert picture.shape == (64, 64, 3)
            np.testing.assert_allclose(picture, wanted, atol=1e-6)

    def test_size_is_width_then_height(self):
        settings = LayerSettings(bg_image=grey(0.3, 10, 20))
        assert conditioning_image(settings, Layer.BG, 96, 64).shape == (64, 96, 3)

    def test_pictures_without_alpha_and_of_bytes_are_taken(self):
        settings = LayerSettings(bg_image=np.full((64, 64, 3), 51, np.uint8))
        picture = conditioning_image(settings, Layer.BG, 64, 64)
        np.testing.assert_allclose(picture, 0.2, atol=1e-6)

    def test_what_is_no_picture_names_its_field(self):
        settings = LayerSettings(blended_image=np.zeros(3, np.float32))
        with pytest.raises(SettingsError) as caught:
            conditioning_image(settings, Layer.BLENDED, 64, 64)
        assert caught.value.field == "blended_image"

    @pytest.mark.parametrize("mode", ResizeMode)
    def test_every_mode_keeps_the_halves(self, mode):
        halves = grey(1.0, 32, 64)
        halves[:, :32, :3] = 0
        settings = LayerSettings(bg_image=halves, resize_mode=mode)
        picture = conditioning_image(settings, Layer.BG, 64, 64)
        assert picture[:, :28].mean() == pytest.approx(0, abs=0.01)
        assert picture[:, 36:].mean() == pytest.approx(1, abs=0.01)

    def test_crop_cuts_and_stretch_does_not(self):
        edges = grey(0.0, 64, 128)
        edges[:, :32, :3] = edges[:, 96:, :3] = 1
        shown = {
            mode: conditioning_image(
                LayerSettings(bg_image=edges, resize_mode=mode), Layer.BG, 64, 64
            ).mean()
            for mode in ResizeMode
        }
        assert shown[ResizeMode.CROP] == pytest.approx(0, abs=0.02)
        assert shown[ResizeMode.STRETCH] == pytest.approx(0.5, abs=0.02)
        assert shown[ResizeMode.FILL] == pytest.approx(0.5, abs=0.02)


class TestInject:
    @pytest.mark.parametrize("method", METHODS, ids=lambda m: m.id)
    def test_what_each_method_needs(self, session, method):
        injection = inject(settings_for(method, strength=0.5), session, NotingHost(), 128, 64)
        weights = method.patch is PatchKind.WEIGHTS
        assert (injection.patches is not None, injection.sharing is None) == (weights, weights)
        assert (injection.method, injection.strength) == (method, 0.5)
        concat, control = injection.concat, injection.control
        wanted = (1, method.concat_channels, 8, 16) if method.concat_channels else None
        assert (concat if concat is None else concat.shape) == wanted
        wanted = (1, 3, 64, 128) if method.uses_control else None
        assert (control if control is None else control.shape) == wanted

    @pytest.mark.parametrize(
        ("id", "values"),
        [
            ("fg_blended_to_bg_sdxl", [0.25, 0.75]),
            ("bg_blended_to_fg_sdxl", [0.5, 0.75]),
            ("bg_to_blended_sdxl", [0.5]),
        ],
    )
    def test_pictures_are_encoded_in_the_channels_order(self, session, id, values):
        host = NotingHost()
        injection = inject(settings_for(find_method(id)), session, host, 64, 64)
        assert [p.mean().item() for p in host.encoded] == pytest.approx(values)
        assert [p.shape for p in host.encoded] == [(1, 3, 64, 64)] * len(values)
        per_channel = injection.concat.mean((0, 2, 3)).tolist()
        assert per_channel == pytest.approx([v for v in values for _ in range(4)])

    def test_the_control_picture_is_signed_and_the_vae_unused(self, session):
        black_to_white = np.linspace(0, 1, 64, dtype=np.float32)
        picture = np.broadcast_to(black_to_white[:, None, None], (64, 64, 3)).copy()
        settings = settings_for(find_method("bg_to_fg_sd15"), bg_image=picture)
        host = NotingHost()
        control = inject(settings, session, host, 64, 64).control
        torch.testing.assert_close(
            control[0, :, :, 0], 2 * torch.linspace(0, 1, 64).expand(3, -1) - 1
        )
        assert not host.encoded

    def test_a_missing_picture_is_named_before_anything_is_loaded(self, session):
        settings = settings_for(find_method("bg_blended_to_fg_sdxl"), bg_image=None)
        with pytest.raises(MissingLayerError) as caught:
            inject(settings, session, NotingHost(), 64, 64)
        assert caught.value.field == "bg_image"
        assert session.store.loaded == []

    def test_stop_at_is_the_current_ones(self, session):
        for stop_at in (0.5, 0.25):
            settings = settings_for(SDXL_FG, stop_at=stop_at)
            assert inject(settings, session, NotingHost(), 64, 64).stop_at == stop_at


class TestSession:
    def test_the_second_call_loads_nothing(self, session):
        first, second = (session.weights(settings_for(JOINT)) for _ in range(2))
        assert first.sharing is second.sharing
        assert session.store.loaded == [JOINT.weights.stem]

    def test_stop_at_and_pictures_load_nothing(self, session):
        first = session.weights(settings_for(JOINT))
        second = session.weights(settings_for(JOINT, stop_at=0.5, fg_image=grey(0)))
        assert first.sharing is second.sharing

    def test_another_strength_loads(self, session):
        first = session.weights(settings_for(JOINT))
        second = session.weights(settings_for(JOINT, strength=0.5))
        assert first.sharing is not second.sharing
        assert second.strength == second.sharing.layers[0].strength == 0.5

    def test_a_changed_file_loads_under_another_name(self, session):
        first = session.weights(settings_for(SDXL_FG))
        key = next(iter(first.patches))
        up = first.patches[key].up.clone()  # Older libraries map the file, which changes.
        path = put(session.store.folder, SDXL_FG.weights, patch_file(SDXL_FG, seed=1))
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
        second = session.weights(settings_for(SDXL_FG))
        assert not torch.equal(up, second.patches[key].up)
        assert first.identity != second.identity

    def test_methods_have_names_of_their_own(self, session):
        names = {session.weights(settings_for(method)).identity for method in METHODS}
        assert len(names) == len(METHODS)

    def test_one_method_is_kept(self, session):
        earlier = weakref.ref(session.weights(settings_for(JOINT)).sharing)
        session.weights(settings_for(SDXL_FG))
        gc.collect()
        assert earlier() is None
        session.weights(settings_for(JOINT))
        assert session.store.loaded == [m.weights.stem for m in (JOINT, SDXL_FG, JOINT)]

    def test_a_refused_file_leaves_nothing_behind(self, session):
        put(session.store.folder, SDXL_FG.weights, {"a::what::0": torch.zeros(1)})
        with pytest.raises(ChecksumError):
            session.weights(settings_for(SDXL_FG))
        put(session.store.folder, SDXL_FG.weights, patch_file(SDXL_FG))
        assert session.weights(settings_for(SDXL_FG)).patches

    def test_a_missing_file_is_told(self, session):
        (session.store.folder / JOINT.weights.filename).unlink()
        with pytest.raises(WeightsNotFoundError, match=JOINT.weights.filename):
            session.weights(settings_for(JOINT))

    def test_each_family_keeps_its_own_decoder(self, session):
        pixels, latent = tiny_inputs(64, 64)
        seen = {}
        for arch in (*Arch, *Arch):
            decoder = session.decoder(arch)
            assert seen.setdefault(arch, decoder) is decoder
        pictures = [seen[arch].decode(pixels, latent, views=1) for arch in Arch]
        for arch, picture in zip(Arch, pictures, strict=True):
            net = TransparentDecoder.from_state_dict(decoder_file(arch))
            torch.testing.assert_close(picture, net.decode(pixels, latent, views=1))
        assert not torch.equal(*pictures)
        assert session.store.loaded == [DECODERS[arch].stem for arch in Arch]

    def test_a_changed_decoder_is_read_again(self, session):
        old = session.decoder(Arch.SDXL)
        state, kept = old.net.state_dict(), weakref.ref(old)
        path = put(session.store.folder, DECODERS[Arch.SDXL], tiny_decoder_weights(7))
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
        new = session.decoder(Arch.SDXL)
        del old
        gc.collect()
        assert kept() is None
        assert not all(torch.equal(tensor, state[k]) for k, tensor in new.net.state_dict().items())


class TestDecode:
    def test_rgba_of_the_decoder_with_the_vae_latent(self, session):
        pixels, latent = tiny_inputs(64, 72)
        host, decoder = NotingHost(), session.decoder(Arch.SDXL)
        rgba = decode(decoder, host, pixels[0], latent[0])
        assert (rgba.shape, rgba.dtype) == ((64, 72, 4), np.uint8)
        wanted = decoder.decode(pixels, latent)[0].permute(1, 2, 0).numpy() * 255
        assert abs(rgba - wanted).max() <= 0.51
        assert [net for net, _ in host.placed] == [decoder.net]

    @pytest.mark.parametrize(("free", "recomputed"), [(None, 0), (1, 2)])
    def test_what_the_host_says_is_free_decides_how_memory_is_saved(
        self, session, monkeypatch, free, recomputed
    ):
        found, by_strips = [], UNet1024.by_strips

        def noted(net, pixels, latent, thrift):
            found.append(thrift.recomputed)
            return by_strips(net, pixels, latent, thrift)

        monkeypatch.setattr(UNet1024, "by_strips", noted)
        pixels, latent = (x[0] for x in tiny_inputs(64, 64))
        host = NotingHost(free)
        decode(session.decoder(Arch.SDXL), host, pixels, latent, views=1)
        assert found == [recomputed]

    def test_alpha_comes_last(self):
        class Fixed:
            net = torch.nn.Identity()

            def held(self, pixels, **_):
                return pixels

            def decode(self, pixels, latent, **_):
                return torch.tensor([0.0, 0.2, 0.4, 1.0]).view(1, 4, 1, 1).expand(1, 4, 8, 8)

        rgba = decode(Fixed(), NotingHost(), torch.zeros(3, 8, 8), torch.zeros(4, 1, 1))
        assert rgba[0, 0].tolist() == [0, 51, 102, 255]

    def test_memory_for_whole_maps_is_asked_for_where_they_are_compiled(self, session, monkeypatch):
        monkeypatch.setattr(torch, "compile", lambda function, **_: function)
        pixels, latent = (x[0] for x in tiny_inputs(64, 64))
        decoder, host = session.decoder(Arch.SDXL), NotingHost()
        for compiled in (False, True):
            decode(decoder, host, pixels, latent, views=1, compiled=compiled)
        (_, strips), (_, whole) = host.placed
        width = decoder.net.conv_in.out_channels
        assert whole - strips == (WHOLE - MOST) * width * 64 * 64 > 0

    def test_a_compilation_that_fails_is_told(self, session, monkeypatch):
        monkeypatch.setattr(torch, "compile", lambda *_, **__: 1 / 0)
        pixels, latent = (x[0] for x in tiny_inputs(64, 64))
        decoder, told = session.decoder(Arch.SDXL), []
        rgba = decode(decoder, NotingHost(), pixels, latent, compiled=True, on_retry=told.append)
        np.testing.assert_array_equal(rgba, decode(decoder, NotingHost(), pixels, latent))
        assert ["division by zero" in text for text in told] == [True]

    def test_views_are_reported_and_can_be_stopped(self, session):
        pixels, latent = tiny_inputs(64, 64)
        calls = []

        def on_view(done, total):
            calls.append((done, total))
            return done < 2

        decode(
            session.decoder(Arch.SD15),
            NotingHost(),
            pixels[0],
            latent[0],
            views=4,
            on_view=on_view,
        )
        assert calls == [(1, 4), (2, 4)]


class TestEncode:
    @pytest.fixture
    def encoder(self):
        return TransparentEncoder.from_state_dict(tiny_encoder_weights())

    @staticmethod
    def gradient():
        rgba = np.random.default_rng(1).random((64, 64, 4), dtype=np.float32)
        rgba[:, :20, 3] = 0
        return rgba

    @pytest.mark.parametrize("strength", [1.0, 300.0])
    def test_is_the_mean_and_the_scaled_offset_on_the_samplers_scale(self, encoder, strength):
        host, rgba = NotingHost(), self.gradient()
        latent = encode(encoder, host, rgba, strength)
        (flat,) = host.encoded
        alpha = rgba[..., 3:]
        wanted = (rgba[..., :3] * alpha + 0.5 * (1 - alpha)).transpose(2, 0, 1)[None]
        np.testing.assert_allclose(flat, wanted, atol=1e-6)
        padded = torch.from_numpy(pad_colours(rgba)).permute(2, 0, 1).unsqueeze(0)
        offset = encoder.offset(padded)
        torch.testing.assert_close(
            latent, 0.5 * (flat.mean() + 0.25 * strength * offset), rtol=1e-5, atol=1e-6
        )
        assert host.placed == [(encoder.net, encoder.held(64 * 64))]

    def test_opaque_pictures_have_an_offset_too(self, encoder):
        host, opaque = NotingHost(), grey(0.3)
        assert not torch.equal(
            encode(encoder, host, opaque), encode(encoder, host, opaque, strength=0)
        )


class TestFirstPicture:
    def test_blended_layers_begin_with_the_picture_over_the_given_background(self):
        settings = settings_for(find_method("bg_to_blended_sdxl"))
        init = grey(0.9, height=32, width=48, alpha=0.25)
        first = first_image(settings, Layer.BLENDED, init)
        assert first.shape == (32, 48, 4)
        np.testing.assert_allclose(first[..., :3], 0.9 * 0.25 + 0.5 * 0.75, atol=1e-6)
        assert (first[..., 3] == 1).all()

    @pytest.mark.parametrize(
        ("method_id", "layer"),
        [
            ("fg_attn_sdxl", Layer.FG),
            ("bg_to_fg_sd15", Layer.FG),
            ("fg_to_blended_sdxl", Layer.BLENDED),
            ("joint_sd15", Layer.BLENDED),
            ("joint_sd15", Layer.BG),
        ],
    )
    def test_others_begin_with_the_picture_itself(self, method_id, layer):
        settings, init = settings_for(find_method(method_id)), grey(0.9, alpha=0.25)
        assert first_image(settings, layer, init) is init
