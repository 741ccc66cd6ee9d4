"""Prompts, samplers and images on the diffusers host."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

from hypothesis import given
from hypothesis import strategies as st
from thinned import thinned
from tiny_diffusers import host, load
from torch import Tensor, nn

from lib_layerdiffuse.errors import CodecError, HostError, SettingsError
from lib_layerdiffuse.hosts.diffusers import (
    SAMPLERS,
    DiffusersHost,
    Sampling,
    SamplingStopped,
    diffusers_vae,
)
from lib_layerdiffuse.hosts.diffusers.emphasis import parse
from lib_layerdiffuse.hosts.diffusers.prompt_encoding import embeddings
from lib_layerdiffuse.hosts.diffusers.sampling import check_sampler, strength
from lib_layerdiffuse.methods import Arch

ARCHES = pytest.mark.parametrize("arch", list(Arch), ids=lambda arch: arch.name)
WEBUI_NAMES = (
    "DPM++ 2M Karras",
    "DPM++ 2M SDE Karras",
    "DPM++ SDE Karras",
    "Euler",
    "Euler a",
    "UniPC",
    "DDIM",
)


def sampling(prompts=("a cat", "a dog"), **more: object) -> Sampling:
    made = Sampling(
        list(prompts), ["red"] * len(prompts), [*range(len(prompts))], 64, 72, 2, 5.0, "Euler a"
    )
    return replace(made, **more)


class TestEmphasis:
    @pytest.mark.parametrize(
        ("prompt", "pieces"),
        [
            ("", []),
            ("a cat", [("a cat", 1)]),
            ("a (cat), (dog:1.3)", [("a ", 1), ("cat", 1.1), (", ", 1), ("dog", 1.3)]),
            ("((a)) [b]", [("a", 1.21), (" ", 1), ("b", 1 / 1.1)]),
            ("(a (b:2) c:.5)", [("a ", 0.5), ("b", 1.0), (" c", 0.5)]),
            (r"cat \(animal\), a\\b", [(r"cat (animal), a\b", 1)]),
            ("(open [twice", [("open ", 1.1), ("twice", 1)]),
            ("shut) 12:30, a:b]", [("shut) 12:30, a:b]", 1)]),
            ("a BREAK b BREAKS", [("a", 1), ("BREAK", 1), ("b BREAKS", 1)]),
            ("a :) (b: -1)", [("a :) ", 1), ("b", -1)]),
            ("a,BREAK  BREAK\n(b)", [("a,", 1), ("BREAK", 1), ("BREAK", 1), ("b", 1.1)]),
            (r"12\:30 \| a", [("12:30 | a", 1)]),
        ],
    )
    def test_the_webuis_syntax(self, prompt, pieces):
        found = parse(prompt)
        assert [text for text, _ in found] == [text for text, _ in pieces]
        assert [weight for _, weight in found] == pytest.approx([weight for _, weight in pieces])

    @given(st.text(alphabet="ab ()[]:1.5\\", max_size=30))
    def test_any_text_is_read(self, prompt):
        try:
            pieces = parse(prompt)
        except SettingsError:
            return
        assert "".join(text for text, _ in pieces).count("a") == prompt.count("a")

    @pytest.mark.parametrize("prompt", ["a <lora:x:1>", "<hypernet:y:0.5>, b"])
    def test_what_is_not_done_is_said(self, prompt):
        with pytest.raises(SettingsError, match="Remove the tag"):
            host(Arch.SD15).sample(sampling([prompt]))


class TestPrompts:
    @ARCHES
    def test_short_plain_prompts_are_those_of_diffusers(self, arch):
        pipeline = host(arch).pipeline
        prompts, negatives = ["a cat", "a red glass apple"], ["dog", ""]
        found = embeddings(pipeline, arch, prompts, negatives)
        wanted = pipeline.encode_prompt(
            prompts,
            device="cpu",
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=negatives,
        )
        names = ["prompt_embeds", "negative_prompt_embeds"]
        names += (
            [f"{n}pooled_prompt_embeds" for n in ("", "negative_")] if arch is Arch.SDXL else []
        )
        assert sorted(found) == sorted(names)
        for name, value in zip(names, wanted, strict=True):
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)

    @ARCHES
    def test_a_long_prompt_is_read_to_its_end(self, arch):
        pipeline = host(arch).pipeline
        long = "a cat " * 50
        found = embeddings(pipeline, arch, [long, "a"], ["", "b"])
        other = embeddings(pipeline, arch, [f"{long} of", "a"], ["", "b"])
        assert found["prompt_embeds"].shape[:2] == (2, 3 * 77)  # Four letters are four tokens.
        assert found["negative_prompt_embeds"].shape == found["prompt_embeds"].shape
        first, last = (slice(0, 77), slice(2 * 77, None))
        assert torch.equal(found["prompt_embeds"][:, first], other["prompt_embeds"][:, first])
        assert not torch.equal(found["prompt_embeds"][0, last], other["prompt_embeds"][0, last])
        assert host(arch).sample(sampling([long, "a"])).isfinite().all()

    @ARCHES
    def test_break_begins_a_new_block(self, arch):
        found = embeddings(host(arch).pipeline, arch, ["a BREAK b"], ["a"])
        wanted = embeddings(host(arch).pipeline, arch, ["a", "b"], ["a", "a"])
        blocks = found["prompt_embeds"].unflatten(1, (2, 77))[0]
        torch.testing.assert_close(blocks, wanted["prompt_embeds"], rtol=1e-4, atol=1e-5)

    @ARCHES
    def test_a_weight_scales_its_tokens_and_keeps_the_mean(self, arch):
        pipeline = host(arch).pipeline
        plain = embeddings(pipeline, arch, ["a b d"], [""])["prompt_embeds"]
        weighed = embeddings(pipeline, arch, ["a (b:1.5) d"], [""])["prompt_embeds"]
        factor = weighed / plain
        torch.testing.assert_close(weighed.mean(), plain.mean(), rtol=1e-2, atol=1e-4)
        width = pipeline.text_encoder.config.hidden_size
        ratio = factor[0, 2, :width] / factor[0, 1, :width]
        torch.testing.assert_close(ratio, torch.full_like(ratio, 1.5), rtol=1e-3, atol=1e-3)

    def test_sdxl_takes_zeros_for_no_negative_prompt(self):
        pipeline = host(Arch.SDXL).pipeline
        empty = embeddings(pipeline, Arch.SDXL, ["a", "b"], ["", " "])
        assert not any(value.any() for name, value in empty.items() if "negative" in name)
        one = embeddings(pipeline, Arch.SDXL, ["a", "b"], ["", "c"])
        assert one["negative_prompt_embeds"][0].any()

    def test_an_exclamation_mark_is_no_padding(self):
        pipeline = host(Arch.SDXL).pipeline
        width = pipeline.text_encoder.config.hidden_size
        plain, marked = (
            embeddings(pipeline, Arch.SDXL, [text], ["a"])["prompt_embeds"][..., width:]
            for text in ("cat", "cat!")
        )
        assert pipeline.tokenizer_2.pad_token == "!"
        assert not torch.allclose(plain[0, 4], marked[0, 4], atol=1e-3)


def mean_and_deviation(name: str, steps: int = 20) -> tuple[float, float]:
    """Samples a known distribution, N(0.7, 0.5²), with its exact denoiser."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = SAMPLERS[name].build(betas | {"num_train_timesteps": 1000, "steps_offset": 1})
    scheduler.set_timesteps(steps)
    variance = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).log()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 32, 32, generator=generator) * scheduler.init_noise_sigma
    takes_noise = "generator" in scheduler.step.__code__.co_varnames
    more = {"generator": generator} if takes_noise else {}
    for t in scheduler.timesteps:
        scaled, low = scheduler.scale_model_input(x, t), int(t)
        part = float(t) - low
        log = (1 - part) * variance[low] + part * variance[min(low + 1, 999)]
        alpha = 1 / (1 + log.exp())
        clean = (alpha.sqrt() * 0.25 * scaled + (1 - alpha) * 0.7) / (alpha * 0.25 + 1 - alpha)
        noise = (scaled - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        x = scheduler.step(noise, t, x, **more).prev_sample
    return float(x.mean()), float(x.std())


class TestSamplers:
    @pytest.mark.parametrize("name", thinned(SAMPLERS, 2))
    def test_each_ends_at_the_data(self, name):
        mean, deviation = mean_and_deviation(name)
        assert mean == pytest.approx(0.7, abs=0.05)
        # LCM asks the model for the result at once, which leaves the spread out.
        assert deviation == pytest.approx(0.5, abs=0.25 if name == "LCM" else 0.12)

    @pytest.mark.parametrize("name", thinned(SAMPLERS, 12))
    @pytest.mark.parametrize("steps", [1, 3])
    def test_each_runs_in_few_steps(self, name, steps):
        one = host(Arch.SD15)
        found = one.sample(sampling(["a"], sampler=name, steps=steps))
        assert found.shape == (1, 4, 9, 8)
        assert found.isfinite().all()
        init = torch.zeros(1, 4, 8, 8)
        assert one.sample(sampling(["a"], sampler=name, steps=steps, init=init)).isfinite().all()

    def test_the_webuis_names_are_there(self):
        assert set(WEBUI_NAMES) <= set(SAMPLERS)

    def test_letters_of_either_case(self):
        assert check_sampler("EULER A") is SAMPLERS["Euler a"]
        assert check_sampler(" dpm++ 2m  karras") is SAMPLERS["DPM++ 2M Karras"]

    def test_a_near_miss_is_told(self):
        with pytest.raises(SettingsError, match=r"DPM\+\+ 2M Karras"):
            check_sampler("dpmpp 2m karras")
        with pytest.raises(SettingsError, match="Euler a"):
            host(Arch.SD15).sample(sampling(sampler="zzzz"))


class TestSampling:
    @ARCHES
    def test_a_row_does_not_depend_on_its_batch(self, arch):
        both = host(arch).sample(sampling(seeds=[7, 9]))
        second = host(arch).sample(sampling(["a dog"], seeds=[9]))
        torch.testing.assert_close(both[1:], second, rtol=1e-3, atol=1e-3)
        again = host(arch).sample(sampling(seeds=[7, 10]))
        assert torch.equal(again[0], both[0])
        assert not torch.allclose(again[1], both[1], atol=0.1)

    def test_noise_is_drawn_as_the_webui_does(self):
        one, seen = host(Arch.SD15), []
        hook = one.pipeline.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        one.sample(sampling(["a"], seeds=[5], steps=1, sampler="DDIM"))
        hook.remove()
        wanted = torch.randn((4, 9, 8), generator=torch.Generator().manual_seed(5))
        assert torch.equal(seen[0], wanted.expand(2, -1, -1, -1))

    def test_guidance(self):
        one, calls = host(Arch.SD15), []
        hook = one.pipeline.unet.register_forward_pre_hook(lambda _, args: calls.append(args[0]))
        with_negative = one.sample(sampling(cfg=1.0))
        other = one.sample(sampling(cfg=1.0, negative_prompts=["cat", "book"]))
        hook.remove()
        assert torch.equal(with_negative, other)
        assert {len(call) for call in calls} == {2}

    @pytest.mark.parametrize("steps", [1, 2, 7, 10, 20, 30, 33, 50])
    @pytest.mark.parametrize("denoise", [0, 0.1, 0.29, 0.5, 0.75, 0.999, 1])
    def test_as_many_steps_as_in_the_webui(self, steps, denoise):
        run = min(math.floor(min(denoise, 0.999) * steps) + 1, steps)
        assert min(int(steps * strength(steps, denoise)), steps) == run
        assert 0 < strength(steps, denoise) <= 1

    @ARCHES
    def test_the_models_sigmas_rise_with_its_timesteps(self, arch):
        one = host(arch)
        config, sigmas = one.pipeline.scheduler.config, one.sigmas()
        betas = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, len(sigmas)) ** 2
        left = (1 - betas).cumprod(0)
        torch.testing.assert_close(sigmas, ((1 - left) / left).sqrt())
        assert len(sigmas) == config.num_train_timesteps
        assert (sigmas.diff() > 0).all()

    @ARCHES
    def test_less_denoising_keeps_more(self, arch):
        init = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        seen: list[tuple[int, int]] = []

        def distance(denoise: float) -> float:
            def on_step(*step: int) -> bool:
                seen.append(step)
                return True

            found = host(arch).sample(
                sampling(["a"], init=init, denoise=denoise, steps=10, cfg=1.0, on_step=on_step)
            )
            return float((found - init).abs().mean())

        assert distance(0.1) < distance(0.9)
        assert seen == [(n, 2) for n in (1, 2)] + [(n, 10) for n in range(1, 11)]

    def test_stopping(self):
        seen: list[tuple[int, int]] = []

        def on_step(*step: int) -> bool:
            seen.append(step)
            return len(seen) < 3

        with pytest.raises(SamplingStopped):
            host(Arch.SD15).sample(sampling(steps=6, on_step=on_step))
        assert seen == [(1, 6), (2, 6), (3, 6)]


def small_only(monkeypatch: pytest.MonkeyPatch, net: nn.Module, side: int) -> None:
    """Lets a network have memory for images up to a side."""
    forward = net.forward

    def run(x: Tensor, *args: object) -> Tensor:
        if max(x.shape[2:]) > side:
            raise RuntimeError("[enforce fail] not enough memory: you tried to allocate")
        return forward(x, *args)

    monkeypatch.setattr(net, "forward", run)


class _Overflowing(nn.Module):
    """Stands for a VAE's decoder whose numbers do not fit."""

    def __init__(self, decoder: nn.Module, *, ever: bool) -> None:
        super().__init__()
        self.decoder, self.ever = decoder, ever

    def forward(self, z: Tensor, *args: object) -> Tensor:
        found = self.decoder(z, *args)
        return found * float("nan") if self.ever or z.dtype != torch.float32 else found


class TestVae:
    @ARCHES
    def test_encode_is_the_posteriors_mean_on_the_samplers_scale(self, arch):
        one = host(arch)
        picture = torch.rand(2, 3, 64, 72, generator=torch.Generator().manual_seed(0))
        mean, std = one.posterior(picture)
        latent = one.encode(picture)
        scale = {Arch.SD15: 0.18215, Arch.SDXL: 0.13025}[arch]
        assert mean.shape == std.shape == (2, 4, 8, 9)
        assert (std > 0).all()
        torch.testing.assert_close(latent, mean * scale)
        torch.testing.assert_close(one.vae_latent(latent), mean)
        torch.testing.assert_close(one.sampler_latent(mean), latent)

    @ARCHES
    def test_pixels_are_in_range(self, arch):
        latents = 20 * torch.randn(2, 4, 8, 9, generator=torch.Generator().manual_seed(0))
        pixels = host(arch).pixels(latents)
        assert pixels.shape == (2, 3, 64, 72)
        assert pixels.dtype == torch.float32
        assert (pixels.min(), pixels.max()) == (0, 1)

    def overflowing(self, *, ever: bool) -> DiffusersHost:
        one = load(Arch.SD15, dtype=torch.bfloat16)
        one.pipeline.vae.decoder = _Overflowing(one.pipeline.vae.decoder, ever=ever)
        return one

    def test_what_overflows_is_decoded_again_in_float32(self):
        one = self.overflowing(ever=False)
        assert one.pixels(torch.zeros(1, 4, 8, 8)).isfinite().all()
        assert one.pipeline.vae.dtype == torch.float32

    def test_what_still_does_is_an_error(self):
        with pytest.raises(HostError, match="float32"):
            self.overflowing(ever=True).pixels(torch.zeros(1, 4, 8, 8))

    def test_tiles(self):
        latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        tiled = load(Arch.SD15, tiling=True)
        assert tiled.pipeline.vae.use_tiling
        tiled.pipeline.vae.tile_latent_min_size = 8
        tiled.pipeline.vae.tile_sample_min_size = 64
        assert tiled.pixels(latents).shape == host(Arch.SD15).pixels(latents).shape

    def test_without_memory_for_the_whole_it_works_in_tiles(self, monkeypatch):
        """The VAE is as it was afterwards."""
        one, told = load(Arch.SD15), []
        net = one.pipeline.vae
        for part in ("encoder", "decoder"):
            small_only(monkeypatch, getattr(net, part), {"encoder": 256, "decoder": 32}[part])
        latents = torch.randn(1, 4, 40, 48, generator=torch.Generator().manual_seed(0))
        found = one.pixels(latents, on_retry=told.append)
        assert found.shape == (1, 3, 320, 384)
        assert told == [
            "the memory was full, so the VAE took the image in parts of 256 pixels; the result may "
            "differ a little."
        ]
        mean, std = one.posterior(found)
        assert mean.shape == std.shape == (1, 4, 40, 48)
        assert not net.use_tiling
        assert net.tile_latent_min_size == host(Arch.SD15).pipeline.vae.tile_latent_min_size

    def test_without_memory_for_tiles_it_says_so(self, monkeypatch):
        one = load(Arch.SD15)
        small_only(monkeypatch, one.pipeline.vae.decoder, 0)
        with pytest.raises(CodecError, match="The memory is full: the VAE does not fit"):
            one.pixels(torch.zeros(1, 4, 40, 40))

    def test_where_the_device_has_none_left_the_cpu_decodes(self):
        moved, told = [], []
        full = torch.device("meta")

        def decode(latent: Tensor) -> SimpleNamespace:
            if latent.device == full:
                raise torch.cuda.OutOfMemoryError
            return SimpleNamespace(sample=torch.zeros(1, 3, 64, 64))

        config = SimpleNamespace(scaling_factor=1.0)
        net = SimpleNamespace(dtype=torch.float32, config=config, decode=decode, to=moved.append)
        found = diffusers_vae.pixels(net, torch.zeros(1, 4, 8, 8), full, told.append)
        assert (found == 0.5).all()
        assert moved == ["cpu", full]
        assert "computed on the CPU" in told[-1]

    def test_networks_go_where_the_host_computes(self):
        net = nn.Linear(1, 1).to(torch.bfloat16)
        load(Arch.SD15, dtype=torch.bfloat16).place(net, 64)
        assert net.weight.dtype == torch.float32
