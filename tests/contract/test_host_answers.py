"""What each adapter says of its checkpoint: family, schedule, VAE, and where networks compute."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from adapters import each, run

from lib_layerdiffuse.errors import HostError, LayerDiffuseError, MissingCapabilityError
from lib_layerdiffuse.methods import Arch, find_method
from lib_layerdiffuse.nets.full_memory import is_memory_error

__all__ = ["run"]
FG, JOINT = find_method("fg_attn_sd15"), find_method("joint_sd15")
SDXL_FG, TWO_PICTURES = find_method("fg_attn_sdxl"), find_method("fg_blended_to_bg_sdxl")
BY_LOADING = {"diffusers": "what no method fits is refused when it is loaded"}


class TestFamily:
    @each()
    @pytest.mark.parametrize("arch", Arch)
    def test_it_is_read(self, run, arch):
        assert run.host_of(arch.value).arch() is arch

    @each(but=BY_LOADING)
    def test_others_are_none(self, run):
        assert run.host_of("SD2").arch() is None
        host = run.host_of("SD2")
        host.sd_model = SimpleNamespace()
        assert host.arch() is None


class TestCheck:
    @each(FG, TWO_PICTURES)
    def test_an_ordinary_checkpoint_passes_also_while_a_method_is_attached(self, run, method):
        run.open(method).host.check(method)
        run.load(run.injection(method)).host.check(method)
        run.call(0.1)
        run.host.check(method)
        run.end()

    @each(but=BY_LOADING)
    @pytest.mark.parametrize("channels", [8, 9])
    def test_one_for_inpainting_or_editing_is_refused(self, run, channels):
        host = run.host_of("SDXL", channels=channels)
        with pytest.raises(MissingCapabilityError, match=f"{channels} channels, not 4"):
            host.check(SDXL_FG)

    @each(JOINT, SDXL_FG)
    def test_nobody_elses_patches_are_no_matter(self, run, method):
        run.attach(method).host.check_patched(method, torch.zeros(method.frames, 4, 8, 8))
        run.end()


class TestSchedule:
    @each()
    def test_sigmas_rise_and_are_those_of_stable_diffusion(self, run):
        sigmas = run.open(FG).host.sigmas()
        assert sigmas.shape == (1000,)
        assert (sigmas.diff() > 0).all()
        ends = torch.tensor([0.0292, 14.6146])
        torch.testing.assert_close(sigmas[[0, -1]].cpu(), ends, rtol=0.03, atol=0)


class TestVae:
    @each()
    def test_the_posterior_is_on_the_vaes_scale(self, run):
        image = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
        run.open(FG)
        found, wanted = run.host.posterior(image), run.vae_makes(image)
        for got, right in zip(found, wanted, strict=True):
            assert got.shape == (2, 4, 2, 3)
            torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-4)

    @each(FG, SDXL_FG)
    def test_latents_change_scale_and_back(self, run, method):
        image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
        host = run.open(method).host
        mean, _ = run.vae_makes(image)
        latent = host.encode(image)
        scale = 0.18215 if method is FG else 0.13025
        torch.testing.assert_close(latent, scale * mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(host.sampler_latent(mean), scale * mean)
        torch.testing.assert_close(host.vae_latent(host.sampler_latent(mean)), mean)
        torch.testing.assert_close(host.sampler_latent(host.vae_latent(latent)), latent)

    @each()
    def test_numbers_that_overflow_are_told(self, run):
        with pytest.raises(HostError, match="NaN or infinity"):
            run.open(FG).host.posterior(torch.full((1, 3, 16, 16), torch.inf))

    @each()
    def test_full_memory_is_told(self, run, monkeypatch):
        run.open(FG)
        run.break_vae(monkeypatch, run.memory_error)
        with pytest.raises(LayerDiffuseError, match="memory is full"):
            run.host.posterior(torch.rand(1, 3, 16, 16))


class TestMemory:
    @each()
    def test_a_network_is_placed_in_the_hosts_type_or_in_a_given_one(self, run):
        net = torch.nn.Linear(2, 2).double()
        run.open(FG).host.place(net, 64 * 64)
        assert net.weight.dtype is torch.float32
        run.host.place(net, 64 * 64, torch.float16)
        assert net.weight.dtype is torch.float16

    @each()
    @pytest.mark.parametrize("size", [5, 7 << 30])
    def test_what_it_says_is_free_is_told(self, run, monkeypatch, size):
        run.open(FG).free(monkeypatch, size)
        assert run.host.place(torch.nn.Linear(2, 2), 64) == size

    @each()
    def test_its_own_errors_are_known(self, run):
        types = run.open(FG).host.memory_errors()
        assert is_memory_error(run.memory_error(), types)
        assert not is_memory_error(RuntimeError("other"), types)
