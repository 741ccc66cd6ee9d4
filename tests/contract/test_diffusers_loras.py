"""The user's LoRAs without a WebUI: each spelling of their keys arrives, others are refused."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

from safetensors.torch import save_file
from thinned import thinned
from tiny_diffusers import host, load, with_loras
from torch import Tensor

from lib_layerdiffuse.errors import LayerDiffuseError, SettingsError, WeightsError
from lib_layerdiffuse.hosts.diffusers import loading
from lib_layerdiffuse.methods import Arch

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
OUT = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0"
LDM = {Arch.SD15: "input_blocks.4.1.transformer_blocks.0.attn2.to_k"}
LDM[Arch.SDXL] = LDM[Arch.SD15]
TEXT = "text_model.encoder.layers.1.self_attn.q_proj"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 3


def weight_of(one, layer: str = LAYER, part: str = "unet") -> Tensor:
    net = getattr(one.pipeline, part)
    if part != "unet" and not hasattr(net, "text_model"):
        layer = layer.removeprefix("text_model.")
    return net.get_submodule(layer).weight


def factors(arch: Arch, layer: str = LAYER, part: str = "unet") -> tuple[Tensor, Tensor]:
    wide, *inner = weight_of(host(arch), layer, part).shape
    return noise(wide, 2, *[1] * (len(inner) - 1)), noise(2, *inner, seed=1)


def written(folder: Path, tensors: dict[str, Tensor], metadata=None) -> Path:
    path = folder / "ink.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path


def flat(name: str) -> str:
    return name.replace(".", "_")


def spellings(arch: Arch) -> dict[str, tuple[str, str, str]]:
    """Returns the layer's name, and what its halves are called, by who writes files so."""
    kohya, peft = ("lora_up.weight", "lora_down.weight"), ("lora_B.weight", "lora_A.weight")
    named = ("lora_B.default.weight", "lora_A.default.weight")
    ldm = LDM[arch]
    return {
        "diffusers": (f"unet.{LAYER}", *peft),
        "diffusers of 2023": (f"unet.{LAYER}", "lora.up.weight", "lora.down.weight"),
        "diffusers with processors": (
            f"unet.{LAYER.removesuffix('.to_k')}.processor.to_k_lora",
            "up.weight",
            "down.weight",
        ),
        "comfy, ldm names": (f"diffusion_model.{ldm}", *peft),
        "comfy, diffusers' names": (f"diffusion_model.{LAYER}", *peft),
        "comfy, whole names": (f"model.diffusion_model.{ldm}", *kohya),
        "peft": (f"base_model.model.{LAYER}", *named),
        "peft with a part": (f"base_model.model.unet.{LAYER}", *peft),
        "bare": (LAYER, *peft),
        "bare, ldm names": (ldm, *peft),
        "kohya": (f"lora_unet_{flat(LAYER)}", *kohya),
        "kohya, ldm names": (f"lora_unet_{flat(ldm)}", *kohya),
        "lycoris": (f"lycoris_{flat(LAYER)}", *kohya),
    }


@pytest.mark.parametrize("arch", list(Arch), ids=lambda arch: arch.name)
@pytest.mark.parametrize("spelling", thinned(spellings(Arch.SD15), 3))
def test_each_spelling_arrives(arch, spelling, tmp_path):
    name, up_name, down_name = spellings(arch)[spelling]
    up, down = factors(arch)
    path = written(tmp_path, {f"{name}.{up_name}": up, f"{name}.{down_name}": down})
    found = weight_of(with_loras(arch, [(path, 0.6)]))
    torch.testing.assert_close(found, weight_of(host(arch)) + 0.6 * up @ down)


@pytest.mark.parametrize(
    ("arch", "part", "name"),
    [
        (Arch.SD15, "text_encoder", f"lora_te_{flat(TEXT)}"),
        (Arch.SD15, "text_encoder", f"text_encoder.{TEXT}"),
        (Arch.SD15, "text_encoder", TEXT),
        (Arch.SDXL, "text_encoder", f"lora_te1_{flat(TEXT)}"),
        (Arch.SDXL, "text_encoder_2", f"lora_te2_{flat(TEXT)}"),
        (Arch.SDXL, "text_encoder_2", f"text_encoder_2.{TEXT}"),
        (Arch.SDXL, "text_encoder_2", f"text_encoders.clip_g.transformer.{TEXT}"),
    ],
)
def test_text_encoders_take_theirs(arch, part, name, tmp_path):
    up, down = factors(arch, TEXT, part)
    path = written(tmp_path, {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down})
    found = weight_of(with_loras(arch, [(path, -0.5)]), TEXT, part)
    torch.testing.assert_close(found, weight_of(host(arch), TEXT, part) - 0.5 * up @ down)


OPEN_CLIP_PREFIXES = (
    "lora_te2_transformer_",
    "lora_te2_text_model_transformer_",
    "text_encoder_2.transformer.",
    "conditioner.embedders.1.model.transformer.",
    "text_encoders.clip_g.transformer.",
    "clip_g.transformer.",
    "transformer.",
)
OPEN_CLIP = {"attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
BLOCK = "text_model.encoder.layers.1"


def open_clip(prefix: str, name: str) -> str:
    return prefix + (flat(name) if prefix.startswith("lora_") else name)


@pytest.mark.parametrize("prefix", thinned(OPEN_CLIP_PREFIXES, 3))
def test_open_clips_names_of_the_second_text_encoder(prefix, tmp_path):
    tensors, wanted = {}, {}
    for name, ours in OPEN_CLIP.items():
        up, down = factors(Arch.SDXL, f"{BLOCK}.{ours}", "text_encoder_2")
        key = open_clip(prefix, f"resblocks.1.{name}")
        tensors |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}
        wanted[ours] = 0.5 * up @ down
    _, down = factors(Arch.SDXL, f"{BLOCK}.self_attn.q_proj", "text_encoder_2")
    up = noise(3 * down.shape[1], 2, seed=7)
    key = open_clip(prefix, "resblocks.1.attn.in_proj")
    tensors |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}
    for name, third in zip("qkv", up.chunk(3), strict=True):
        wanted[f"self_attn.{name}_proj"] = 0.5 * third @ down
    one = with_loras(Arch.SDXL, [(written(tmp_path, tensors), 0.5)])
    for ours, change in wanted.items():
        layer = f"{BLOCK}.{ours}"
        before = weight_of(host(Arch.SDXL), layer, "text_encoder_2")
        torch.testing.assert_close(weight_of(one, layer, "text_encoder_2"), before + change)


def test_several_add_up_and_alpha_scales(tmp_path):
    up, down = factors(Arch.SD15)
    name = f"lora_unet_{flat(LAYER)}"
    halves = {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
    path = written(tmp_path, halves | {f"{name}.alpha": torch.tensor(1.0)})
    found = weight_of(load(Arch.SD15, loras=[(path, 1.0), (path, 0.5)]))
    torch.testing.assert_close(found, weight_of(host(Arch.SD15)) + 1.5 * 0.5 * up @ down)


@pytest.mark.parametrize(
    ("noted", "scale"),
    [
        ({"unet.lora_alpha": 8, "unet.r": 2}, 4.0),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 8 / math.sqrt(2)),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn2.to_k": 6}}, 3.0),
        ({"text_encoder.lora_alpha": 8}, 1.0),
        (["nothing"], 1.0),
        ({"unet.lora_alpha": 10**400}, 1.0),
        ({"unet.lora_alpha": float("inf")}, 1.0),
        ({"unet.lora_alpha": float("nan")}, 1.0),
    ],
)
def test_the_scale_that_diffusers_notes(noted, scale, tmp_path):
    up, down = factors(Arch.SD15)
    halves = {f"unet.{LAYER}.lora_B.weight": up, f"unet.{LAYER}.lora_A.weight": down}
    path = written(tmp_path, halves, {"lora_adapter_metadata": json.dumps(noted)})
    found = weight_of(with_loras(Arch.SD15, [(path, 1.0)]))
    torch.testing.assert_close(found, weight_of(host(Arch.SD15)) + scale * up @ down)


CONV = "down_blocks.0.resnets.0.conv1"


def changes(weight: Tensor) -> dict[str, tuple[dict[str, Tensor], Tensor]]:
    """Returns a file's parts and the weight that they make at 1, by kind; element by element."""
    wide, narrow, *kernel = weight.shape
    a, b = noise(wide, 2, seed=2), noise(2, narrow, *kernel, seed=3)
    c, d = noise(wide, 2, seed=4), noise(2, narrow, *kernel, seed=5)
    plain = torch.einsum("or,r...->o...", a, b)
    other = torch.einsum("or,r...->o...", c, d)
    up = a.reshape(wide, 2, *[1] * len(kernel))
    made = weight + plain
    rows = torch.stack([row.norm() for row in made]).reshape(-1, *[1] * (weight.ndim - 1))
    columns = torch.stack([made[:, i].norm() for i in range(narrow)])
    columns = columns.reshape(1, -1, *[1] * len(kernel))
    down = {"lora_up.weight": up, "lora_down.weight": b}
    small, large = noise(2, 2, seed=6), noise(wide // 2, narrow // 2, *kernel, seed=7)
    kron = torch.zeros_like(weight)
    for i in range(wide):
        for j in range(narrow):
            place = small[i // (wide // 2), j // (narrow // 2)]
            kron[i, j] = place * large[i % (wide // 2), j % (narrow // 2)]
    loha = {"hada_w1_a": a, "hada_w1_b": b.flatten(1), "hada_w2_a": c, "hada_w2_b": d.flatten(1)}
    return {
        "LoRA": (down, made),
        "DoRA by rows": (down | {"dora_scale": 2 * rows}, 2 * made),
        "DoRA of PEFT": (down | {"lora_magnitude_vector": rows.flatten()}, made),
        "DoRA by columns": (down | {"dora_scale": 0.5 * columns}, 0.5 * made),
        "LoHa": (loha | {"alpha": torch.tensor(1)}, weight + plain * other / 2),
        "LoKr": ({"lokr_w1": small, "lokr_w2": large}, weight + kron),
        "LoKr in factors": (
            {"lokr_w1_a": noise(2, 2), "lokr_w1_b": torch.linalg.inv(noise(2, 2)) @ small}
            | {"lokr_w2": large, "alpha": torch.tensor(4.0)},
            weight + 2 * kron,
        ),
        "difference": ({"diff": plain}, made),
    }


@pytest.mark.parametrize("layer", [LAYER, pytest.param(CONV, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", thinned(changes(torch.zeros(8, 8)), 2))
def test_each_kind_does_what_it_is_defined_to(kind, layer, tmp_path):
    before = weight_of(host(Arch.SD15), layer)
    parts, wanted = changes(before)[kind]
    path = written(tmp_path, {f"lora_unet_{flat(layer)}.{k}": t for k, t in parts.items()})
    found = weight_of(with_loras(Arch.SD15, [(path, 1.0)]), layer)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    half = weight_of(with_loras(Arch.SD15, [(path, 0.5)]), layer)
    torch.testing.assert_close(half, (wanted + before) / 2, rtol=1e-4, atol=1e-4)


def test_cores_of_convolutions(tmp_path):
    before = weight_of(host(Arch.SD15), CONV)
    wide, narrow, *_ = before.shape
    up, core, down = noise(wide, 2), noise(2, 3, 3, 3, seed=1), noise(3, narrow, seed=2)
    wanted = before + torch.einsum("or,rskl,si->oikl", up, core, down)
    parts = {"lora_up.weight": up[..., None, None], "lora_down.weight": down[..., None, None]}
    name = f"lora_unet_{flat(CONV)}"
    path = written(
        tmp_path,
        {f"{name}.{k}": t for k, t in (parts | {"lora_mid.weight": core}).items()},
    )
    torch.testing.assert_close(weight_of(with_loras(Arch.SD15, [(path, 1.0)]), CONV), wanted)


def test_biases_and_norms(tmp_path):
    norm = "down_blocks.0.resnets.0.norm1"
    old = host(Arch.SD15).pipeline.unet.get_submodule(norm)
    name = f"lora_unet_{flat(norm)}"
    path = written(
        tmp_path,
        {f"{name}.w_norm": torch.ones_like(old.weight), f"{name}.b_norm": old.bias + 1},
    )
    new = with_loras(Arch.SD15, [(path, 2.0)]).pipeline.unet.get_submodule(norm)
    torch.testing.assert_close(new.weight, old.weight + 2)
    torch.testing.assert_close(new.bias, 3 * old.bias + 2)


def refusal(path: Path, weight: float = 1.0, arch: Arch = Arch.SD15) -> str:
    with pytest.raises(LayerDiffuseError) as caught:
        with_loras(arch, [(path, weight)])
    said = str(caught.value)
    assert isinstance(caught.value, WeightsError | SettingsError)
    assert "\n" not in said
    assert len(said) < 300
    return said


class TestRefusals:
    def test_before_the_checkpoint_is_loaded(self, tmp_path, monkeypatch):
        def load_nothing(*_: object, **__: object) -> None:
            raise AssertionError("the checkpoint is loaded first")

        monkeypatch.setattr(loading, "_from_file", load_nothing)
        with pytest.raises(WeightsError, match="is no LoRA"):
            load(Arch.SD15, loras=[(written(tmp_path, {}), 1.0)])

    def test_none_at_all(self, tmp_path):
        assert "There is no LoRA at" in refusal(tmp_path / "gone.safetensors")

    @pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
    def test_weights_that_are_no_number(self, weight, tmp_path):
        path = written(tmp_path, {"a": torch.zeros(1)})
        assert "Give a number such as 0.8." in refusal(path, weight)

    def test_an_empty_file(self, tmp_path):
        said = refusal(written(tmp_path, {}))
        assert said == "ink.safetensors is no LoRA: it holds nothing. Choose a LoRA's file."

    def test_another_models_file(self, tmp_path):
        tensors = {f"model.layer.{n}.weight": torch.zeros(1) for n in range(900)}
        said = refusal(written(tmp_path, tensors))
        assert "is no LoRA: it holds model.layer.0.weight and 899 more." in said

    def test_another_familys(self, tmp_path):
        name = f"unet.{LAYER.replace('blocks.0', 'blocks.9')}"
        halves = {f"{name}.lora_A.weight": noise(1, 9), f"{name}.lora_B.weight": noise(9, 1)}
        assert "which has none of its 1 layers" in refusal(written(tmp_path, halves))

    @pytest.mark.parametrize("arch", list(Arch), ids=lambda arch: arch.name)
    def test_one_of_another_width(self, arch, tmp_path):
        up, down = factors(next(a for a in Arch if a is not arch))
        halves = {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}
        said = refusal(written(tmp_path, halves), arch=arch)
        assert "does not fit the checkpoint's layer of" in said
        assert said.endswith("Choose a LoRA of the checkpoint's family.")

    def test_a_pickle(self, tmp_path):
        path = tmp_path / "ink.SAFETENSORS"
        torch.save({"a": torch.zeros(1)}, path)
        assert "ink.SAFETENSORS is a pickle. Convert it to safetensors" in refusal(path)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_numbers_that_are_none(self, value, tmp_path):
        up, down = factors(Arch.SD15)
        down[0, 0] = value
        halves = {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}
        assert "holds NaN or infinity. Choose another file." in refusal(written(tmp_path, halves))

    def test_one_that_changes_nothing(self, tmp_path):
        up, down = factors(Arch.SD15)
        halves = {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": 0 * up}
        path = written(tmp_path, halves)
        assert "changes nothing at a weight of 0.7." in refusal(path, 0.7)
        assert torch.equal(
            weight_of(with_loras(Arch.SD15, [(path, 0.0)])), weight_of(host(Arch.SD15))
        )

    def test_three_layers_in_one_that_cannot_be_cut(self, tmp_path):
        name = "lora_te2_transformer_resblocks_0_attn_in_proj"
        parts = {f"hada_w{n}_{c}": torch.ones(3, 3) for n in "12" for c in "ab"}
        path = written(tmp_path, {f"{name}.{part}": one for part, one in parts.items()})
        assert "is for three layers at once" in refusal(path, arch=Arch.SDXL)

    def test_a_half_of_one(self, tmp_path):
        up, _ = factors(Arch.SD15)
        said = refusal(written(tmp_path, {f"unet.{LAYER}.lora_B.weight": up}))
        assert f"a part of its unet.{LAYER} is missing." in said

    @pytest.mark.parametrize(
        ("end", "kind"),
        [
            ("oft_blocks", "OFT"),
            ("oft_diag", "OFT"),
            ("oft_R.weight", "OFT"),
            ("a1.weight", "GLoRA"),
            ("on_input", "IA3"),
        ],
    )
    def test_other_kinds_are_named(self, end, kind, tmp_path):
        path = written(tmp_path, {f"lora_unet_{flat(LAYER)}.{end}": torch.ones(1)})
        assert f"is a {kind} file, which LayerDiffuse cannot apply." in refusal(path)


def test_parts_that_find_no_layer_are_told_in_one_line(tmp_path, caplog):
    up, down = factors(Arch.SD15)
    halves = {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}
    names = [f"unet.other.{n:03}.lora_{part}.weight" for n in range(500) for part in "AB"]
    others = {name: torch.ones(1, 1) for name in names}
    path = written(tmp_path, halves | others | {"bundle_emb.word.x": torch.ones(1)})
    with caplog.at_level(logging.WARNING):
        with_loras(Arch.SD15, [(path, 1.0)])
    (line,) = (r.getMessage() for r in caplog.records if r.name.startswith("lib_layerdiffuse"))
    assert "ink.safetensors acts, but for 501 of its parts" in line
    assert len(line) < 200


def test_a_file_called_otherwise_acts(tmp_path):
    up, down = factors(Arch.SD15, OUT)
    halves = {f"unet.{OUT}.lora_A.weight": down, f"unet.{OUT}.lora_B.weight": up}
    path = written(tmp_path, halves).rename(tmp_path / "ink.SAFETENSORS")
    found = with_loras(Arch.SD15, [(path, 1.0)])
    assert not torch.equal(weight_of(found, OUT), weight_of(host(Arch.SD15), OUT))
