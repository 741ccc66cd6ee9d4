"""Prompts that AND composes and that change from step to step, on the diffusers host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby

import pytest
import torch

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

from thinned import thinned
from tiny_diffusers import host, layer_folder
from torch import Tensor, nn

from lib_layerdiffuse.hosts.diffusers import SAMPLERS, Sampling
from lib_layerdiffuse.hosts.diffusers.conditioning import Conditions
from lib_layerdiffuse.hosts.diffusers.prompt_encoding import embeddings
from lib_layerdiffuse.methods import Arch, find_method
from lib_layerdiffuse.pipeline import Session, inject
from lib_layerdiffuse.settings.layer_settings import LayerSettings
from lib_layerdiffuse.weights.store import WeightStore

ARCHES = pytest.mark.parametrize("arch", list(Arch), ids=lambda arch: arch.name)


def sampling(*prompts: str, **more: object) -> Sampling:
    made = Sampling(
        list(prompts), ["red"] * len(prompts), [*range(len(prompts))], 64, 72, 2, 5.0, "Euler a"
    )
    return replace(made, **more)


def read_by_the_unet(one, wanted: Sampling) -> list[Tensor]:
    """Returns what the UNet read at each of its calls."""
    seen: list[Tensor] = []

    def look(_unet: nn.Module, _args: object, kwargs: dict[str, Tensor], _out: object) -> None:
        seen.append(kwargs["encoder_hidden_states"])

    hook = one.pipeline.unet.register_forward_hook(look, with_kwargs=True)
    try:
        one.sample(wanted)
    finally:
        hook.remove()
    return seen


class TestSteps:
    @ARCHES
    def test_the_unet_reads_the_prompt_of_the_step(self, arch):
        one = host(arch)
        seen = read_by_the_unet(one, sampling("[cat:dog:2]", steps=4, negative_prompts=["[a|b]"]))
        wanted = [("cat", "a"), ("cat", "b"), ("dog", "a"), ("dog", "b")]
        assert len(seen) == 4
        for read, (prompt, negative) in zip(seen, wanted, strict=True):
            said = embeddings(one.pipeline, arch, [prompt], [negative])
            both = [said["negative_prompt_embeds"], said["prompt_embeds"]]
            torch.testing.assert_close(read, torch.cat(both))

    @ARCHES
    def test_a_prompt_that_never_changes_is_the_plain_one(self, arch):
        plain = host(arch).sample(sampling("cat"))
        assert torch.equal(host(arch).sample(sampling("[cat:dog:9]")), plain)
        assert torch.equal(host(arch).sample(sampling("[dog:cat:0]")), plain)
        assert not torch.equal(host(arch).sample(sampling("[cat:dog:1]")), plain)
        assert not host(arch).pipeline.unet._forward_pre_hooks

    @pytest.mark.parametrize("name", thinned(SAMPLERS, 12))
    @pytest.mark.parametrize("denoise", [None, 0.5])
    def test_steps_are_those_of_the_sampler(self, name, denoise):
        """Some samplers call the UNet twice in a step."""
        one = host(Arch.SD15)
        more = {} if denoise is None else {"init": torch.zeros(1, 4, 8, 8), "denoise": denoise}
        run = 6 if denoise is None else 4
        wanted = sampling("[cat|dog]", steps=6, sampler=name, cfg=1.0, **more)
        seen = read_by_the_unet(one, wanted)
        said = [
            embeddings(one.pipeline, Arch.SD15, [x], [""])["prompt_embeds"] for x in ("cat", "dog")
        ]
        which = [0 if torch.equal(read, said[0]) else 1 for read in seen]
        assert [word for word, _ in groupby(which)] == ([0, 1] * run)[:run]
        assert len(seen) in (run, run + 1, 2 * run - 1, 2 * run)

    def test_texts_of_other_lengths(self):
        found = host(Arch.SDXL).sample(sampling("[cat:" + "a dog " * 60 + ":1]"))
        assert found.isfinite().all()


class _Echo(nn.Module):
    """Stands for a UNet: each row's answer is the number that it reads."""

    def forward(
        self, sample: Tensor, _t: object, *, encoder_hidden_states: Tensor
    ) -> tuple[Tensor]:
        assert len(sample) == len(encoder_hidden_states)
        return (torch.zeros_like(sample) + encoder_hidden_states.mean((1, 2))[:, None, None, None],)


def echoed(weights: list[list[float]], *, guided: bool) -> list[float]:
    parts, rows = len(weights), len(weights[0])
    prompts = torch.arange(1.0, parts * rows + 1)[:, None, None].expand(-1, 3, 2)
    negative = torch.full((rows, 3, 2), -1.0)
    values = {"prompt_embeds": prompts, "negative_prompt_embeds": negative}
    unet, sample = _Echo(), torch.zeros(rows * (2 if guided else 1), 4, 2, 2)
    read = torch.cat([negative, prompts[:rows]]) if guided else prompts[:rows]
    with Conditions([values], torch.tensor(weights)).on(unet, lambda call: 0):
        (out,) = unet(sample, 0, encoder_hidden_states=read)
    return out[:, 0, 0, 0].tolist()


class TestComposition:
    def test_each_prompts_difference_counts_by_its_weight(self):
        # Two rows read 1 and 2, then 3 and 4; the negative prompt reads -1.
        first = -1 + 0.5 * (1 + 1) + 2 * (3 + 1)
        second = -1 + 1 * (2 + 1) - 1 * (4 + 1)
        weights = [[0.5, 1.0], [2.0, -1.0]]
        assert echoed(weights, guided=True) == [-1, -1, first, second]
        assert echoed(weights, guided=False) == [first, second]

    def test_one_prompt_with_a_weight(self):
        assert echoed([[3.0]], guided=True) == [-1, -1 + 3 * 2]

    @ARCHES
    @pytest.mark.parametrize("cfg", thinned([1.0, 5.0], 2))
    def test_the_same_prompt_in_parts_is_that_prompt(self, arch, cfg):
        def made(prompt: str) -> Tensor:
            return host(arch).sample(sampling(prompt, "dog", cfg=cfg))

        plain = made("cat")
        torch.testing.assert_close(made("cat :0.25 AND cat :.75"), plain, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(made("cat AND dog :0"), plain, rtol=1e-3, atol=1e-3)
        both = made("cat AND dog")
        torch.testing.assert_close(made("dog AND cat"), both, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(both[0], plain[0], atol=0.05)
        torch.testing.assert_close(both[1], plain[1], rtol=1e-3, atol=1e-3)
        unet = host(arch).pipeline.unet
        assert not unet._forward_hooks
        assert not unet._forward_pre_hooks

    def test_a_prompt_may_change_beside_another(self):
        one = host(Arch.SD15)
        changing = one.sample(sampling("[cat:dog:1] AND a", steps=2))
        for other in ("cat AND a", "dog AND a"):
            assert not torch.allclose(changing, one.sample(sampling(other, steps=2)), atol=1e-3)

    @pytest.mark.parametrize(
        "method", thinned(["joint_sd15", "fg_to_bg_sd15", "bg_to_blended_sdxl"], 2)
    )
    def test_the_layers_of_a_set_keep_together(self, method):
        found = find_method(method)
        one, session = host(found.arch), Session(WeightStore(layer_folder(), offline=True))
        image = torch.rand(64, 72, 4, generator=torch.Generator().manual_seed(0)).numpy()
        given = {f"{layer.value}_image": image for layer in found.inputs}
        settings = replace(LayerSettings.from_args([{"method": method}]), **given)
        words = ["cat", "dog", "book"][: found.frames]

        def made(form: Callable[[str], str]) -> Tensor:
            injection = inject(settings, session, one, 64, 72)
            return one.sample(sampling(*map(form, words)), injection)

        plain = made(lambda word: word)
        again = made(lambda word: f"{word} :0.5 AND {word} :0.5")
        torch.testing.assert_close(again, plain, rtol=1e-3, atol=2e-3)
        assert not torch.allclose(made(lambda word: f"{word} AND glass"), plain, atol=0.05)
