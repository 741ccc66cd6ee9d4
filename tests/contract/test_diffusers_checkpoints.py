"""Checkpoints with something missing, spoilt or in another form: loaded whole, or one line."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

from safetensors.torch import load_file, save_file
from shrunk_files import random_tensors
from thinned import thinned
from tiny_diffusers import host, load

from lib_layerdiffuse.errors import LayerDiffuseError
from lib_layerdiffuse.hosts.diffusers import Sampling, components, loading
from lib_layerdiffuse.methods import Arch

NETS = {arch: list(parts) for arch, parts in components.NETS.items()}
PARTS = [(arch, part) for arch, parts in NETS.items() for part in parts]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Arch], Path]:
    made: dict[Arch, Path] = {}

    def of(arch: Arch) -> Path:
        if arch not in made:
            made[arch] = tmp_path_factory.mktemp(arch.name) / "model"
            host(arch).pipeline.save_pretrained(made[arch])
        return made[arch]

    return of


@pytest.fixture
def folder(saved, tmp_path) -> Callable[[Arch], Path]:
    """Gives a copy of a whole folder, to be spoilt."""
    return lambda arch: Path(shutil.copytree(saved(arch), tmp_path / "model"))


def weights(folder: Path, part: str) -> Path:
    (path,) = (folder / part).glob("*.safetensors")
    return path


def refusal(path: Path, arch: Arch = Arch.SD15, **options: object) -> str:
    with pytest.raises(LayerDiffuseError) as caught:
        load(arch, path, **options)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 500
    return said


def sampled(one) -> torch.Tensor:
    return one.sample(Sampling(["a cat"], [""], [1], 64, 64, 1, 3, "Euler"))


def same_weights(one, other) -> bool:
    parts = [name for name in ("unet", "vae", "text_encoder") if hasattr(one.pipeline, name)]
    nets = [(getattr(one.pipeline, name), getattr(other.pipeline, name)) for name in parts]
    return all(
        torch.allclose(a.float(), b.float(), atol=1e-2)
        for net, twin in nets
        for a, b in zip(net.parameters(), twin.parameters(), strict=True)
    )


class TestMissingTensors:
    @pytest.mark.parametrize(("arch", "part"), thinned(PARTS, 3))
    def test_one_of_a_folder_is_named(self, folder, arch, part):
        path = folder(arch)
        file = weights(path, part)
        tensors = load_file(file)
        key = sorted(tensors)[len(tensors) // 2]
        save_file({k: t for k, t in tensors.items() if k != key}, file, {"format": "pt"})
        said = refusal(path, arch)
        assert key.removeprefix("text_model.") in said
        assert f"of its {part}." in said

    @pytest.mark.parametrize(
        ("arch", "key", "named"),
        [
            (
                Arch.SD15,
                "model.diffusion_model.input_blocks.1.0.in_layers.2.bias",
                "down_blocks.0.resnets.0.conv1.bias of its unet.",
            ),
            (
                Arch.SD15,
                "first_stage_model.decoder.mid.block_1.conv1.weight",
                "decoder.mid_block.resnets.0.conv1.weight of its vae.",
            ),
            (
                Arch.SD15,
                "cond_stage_model.transformer.text_model.final_layer_norm.bias",
                "final_layer_norm.bias of its text_encoder.",
            ),
            (
                Arch.SDXL,
                "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight",
                "final_layer_norm.weight of its text_encoder.",
            ),
            (
                Arch.SDXL,
                "conditioner.embedders.1.model.ln_final.weight",
                "final_layer_norm.weight of its text_encoder_2.",
            ),
        ],
    )
    def test_one_of_a_file_is_named(self, arch, key, named, tmp_path):
        tensors = random_tensors(arch)
        assert tensors.pop(key) is not None
        path = tmp_path / "model.safetensors"
        save_file(tensors, path)
        said = refusal(path, arch)
        assert said.startswith("model.safetensors lacks ")
        assert named in said

    @pytest.mark.parametrize("shape", [(), (4,), (1, 4, 4, 3, 3)])
    def test_a_first_convolution_that_is_none(self, shape, tmp_path):
        key = "model.diffusion_model.input_blocks.0.0.weight"
        cross = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
        path = tmp_path / "model.safetensors"
        tensors = {key: torch.zeros(shape), cross: torch.zeros(())}
        save_file(tensors, path)
        assert f"is damaged: its {key} is {list(shape)}" in refusal(path)
        save_file({key: torch.zeros(8, 4, 3, 3), cross: torch.zeros(())}, path)
        assert "is another model" in refusal(path)

    def test_one_of_another_shape(self, folder, tmp_path):
        path = folder(Arch.SD15)
        file = weights(path, "text_encoder")
        tensors = load_file(file)
        key = next(key for key in tensors if key.endswith("final_layer_norm.weight"))
        save_file(tensors | {key: torch.zeros(3)}, file, {"format": "pt"})
        assert "text_encoder" in refusal(path)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


class TestSpoiltFiles:
    @pytest.mark.parametrize(("arch", "part"), thinned(PARTS, 3))
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (POINTER, "is a Git LFS pointer"),
            (b"<!DOCTYPE html><html>", "is a web page"),
            (b"PK\x03\x04" + bytes(60), "is a pickle"),
            (None, "is cut short"),
        ],
        ids=["pointer", "page", "pickle", "cut"],
    )
    def test_each_is_called_what_it_is(self, folder, arch, part, content, said):
        path = folder(arch)
        file = weights(path, part)
        file.write_bytes(file.read_bytes()[:-9] if content is None else content)
        assert f"{part}/{file.name} {said}" in refusal(path, arch)

    @pytest.mark.parametrize(
        "name", ["text_encoder/config.json", "scheduler/scheduler_config.json"]
    )
    def test_small_files_are_read_before_gigabytes(self, folder, monkeypatch, name):
        def load_one(*_, **__):
            raise AssertionError("a network is loaded first")

        path = folder(Arch.SD15)
        (path / name).write_bytes(b"{")
        monkeypatch.setattr(loading, "net_from_folder", load_one)
        assert name.rpartition("/")[2] in refusal(path)

    @pytest.mark.parametrize("part", NETS[Arch.SD15])
    def test_none_at_all(self, folder, part):
        path = folder(Arch.SD15)
        file = weights(path, part)
        file.unlink()
        assert f"lacks {part}/{file.name}. Download" in refusal(path)
        file.with_suffix(".bin").write_bytes(b"\x80\x02")
        assert f"lacks {part}/{file.name}. Convert it" in refusal(path)

    @pytest.mark.parametrize(
        "name",
        ["model_index.json", "scheduler/scheduler_config.json"]
        + [f"{part}/config.json" for part in NETS[Arch.SD15]],
    )
    @pytest.mark.parametrize(
        "content",
        thinned(
            [b"[]", b"1", b"null", b'"text"', b"{", b"\xff", b"", POINTER, b"[" * 100_000, b"{}"], 3
        ),
        ids=["list", "number", "null", "text", "open", "bytes", "empty", "lfs", "deep", "nothing"],
    )
    def test_json_of_other_types(self, folder, name, content):
        path = folder(Arch.SD15)
        (path / name).write_bytes(content)
        if name.startswith("scheduler") and content == b"{}":
            return  # All of it has defaults.
        refusal(path)

    @pytest.mark.parametrize("value", [None, 1, "x", [], [1, 2], {}, ["a"], [None, "a"]])
    @pytest.mark.parametrize("part", NETS[Arch.SD15])
    def test_entries_of_other_types(self, folder, part, value):
        path = folder(Arch.SD15)
        index = json.loads((path / "model_index.json").read_text())
        (path / "model_index.json").write_text(json.dumps(index | {part: value}))
        assert part.replace("_", " ") in refusal(path).replace("_", " ")

    @pytest.mark.parametrize("part", NETS[Arch.SD15])
    def test_unknown_classes(self, folder, part):
        path = folder(Arch.SD15)
        index = json.loads((path / "model_index.json").read_text())
        index[part] = ["their_code", "Theirs"]
        (path / "model_index.json").write_text(json.dumps(index))
        assert f"its {part} is a Theirs" in refusal(path)

    def test_one_text_encoder_of_sdxl(self, folder):
        path = folder(Arch.SDXL)
        shutil.rmtree(path / "text_encoder_2")
        assert "text_encoder_2" in refusal(path, Arch.SDXL)

    @pytest.mark.parametrize("longest", thinned([None, 10**30, "77", 2, True], 2))
    def test_a_tokenizer_that_does_not_say_how_long_texts_are(self, folder, longest):
        """Tools that write tokenizers leave it out, or write what stands for no limit."""
        path = folder(Arch.SD15)
        config = json.loads((path / "tokenizer" / "tokenizer_config.json").read_text())
        changed = config | {"model_max_length": longest}
        if longest is None:
            del changed["model_max_length"]
        (path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(changed))
        got, whole = (sampled(load(Arch.SD15, p)) for p in (path, None))
        assert torch.allclose(got, whole, atol=0.1)

    def test_a_tokenizer_without_its_words(self, folder):
        """The library makes one that knows no word of it."""
        path = folder(Arch.SD15)
        (path / "tokenizer" / "tokenizer.json").unlink()
        assert "lacks its tokenizer, and its text encoder knows" in refusal(path)

    @pytest.mark.parametrize("word", ["eos_token_id", "bos_token_id"])
    def test_a_text_encoder_whose_words_are_odd(self, folder, word):
        path = folder(Arch.SD15)
        config = json.loads((path / "text_encoder" / "config.json").read_text())
        (path / "text_encoder" / "config.json").write_text(json.dumps(config | {word: "x"}))
        with contextlib.suppress(LayerDiffuseError):
            sampled(load(Arch.SD15, path))

    @pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
    def test_a_spoilt_tokenizer(self, folder, name):
        path = folder(Arch.SD15)
        (path / "tokenizer" / name).write_bytes(b"[1")
        assert "The tokenizer of" in refusal(path)


class TestTokenizers:
    def test_clips_own_takes_the_place_of_a_missing_one(self, folder, monkeypatch):
        path = folder(Arch.SDXL)
        for part in ("tokenizer", "tokenizer_2"):
            shutil.rmtree(path / part)
        words = host(Arch.SDXL).pipeline.text_encoder.config.vocab_size
        monkeypatch.setattr(components, "_CLIP_VOCABULARY", words)
        made = load(Arch.SDXL, path).pipeline
        assert made.tokenizer.get_vocab() == host(Arch.SDXL).pipeline.tokenizer.get_vocab()
        assert made.tokenizer_2.pad_token == "!"

    def test_none_for_other_words_than_clips(self, folder):
        path = folder(Arch.SD15)
        shutil.rmtree(path / "tokenizer")
        assert "lacks its tokenizer" in refusal(path)


class TestForms:
    def test_half_precision_of_some_parts_only(self, folder):
        path = folder(Arch.SD15)
        file = weights(path, "unet")
        half = {key: tensor.half() for key, tensor in load_file(file).items()}
        save_file(half, file.with_name(f"{file.stem}.fp16.safetensors"), {"format": "pt"})
        file.unlink()
        assert same_weights(load(Arch.SD15, path), host(Arch.SD15))

    @pytest.mark.parametrize("variant", [None, "fp16"])
    @pytest.mark.parametrize("part", thinned(["unet", "text_encoder"], 2))
    def test_shards(self, folder, part, variant):
        path = folder(Arch.SD15)
        weights(path, part).unlink()
        net = getattr(load(Arch.SD15).pipeline, part)
        net.save_pretrained(path / part, variant=variant, max_shard_size="100KB")
        shards = sorted((path / part).glob("*.safetensors"))
        assert len(shards) > 1
        assert same_weights(load(Arch.SD15, path), host(Arch.SD15))
        shards[1].unlink()
        assert f"lacks {part}/{shards[1].name}." in refusal(path)

    def test_parts_that_are_switched_off_may_be_absent(self, folder):
        path = folder(Arch.SD15)
        index = json.loads((path / "model_index.json").read_text())
        index |= {
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        }
        (path / "model_index.json").write_text(json.dumps(index))
        assert same_weights(load(Arch.SD15, path), host(Arch.SD15))

    @pytest.mark.parametrize("name", ["model.SAFETENSORS", "model.ckpt"])
    def test_a_file_called_otherwise(self, name, tmp_path):
        save_file(random_tensors(Arch.SD15), tmp_path / name)
        assert same_weights(load(Arch.SD15, tmp_path / name), host(Arch.SD15))


class TestPrediction:
    @pytest.mark.parametrize(
        ("noted", "option", "wanted"),
        [
            (None, None, "epsilon"),
            ("epsilon", None, "epsilon"),
            ("v", None, "v_prediction"),
            ("v_prediction", None, "v_prediction"),
            (None, "v", "v_prediction"),
            ("v", "eps", "epsilon"),
        ],
    )
    def test_of_a_file(self, noted, option, wanted, tmp_path):
        path = tmp_path / "model.safetensors"
        metadata = {"modelspec.prediction_type": noted} if noted else None
        save_file(random_tensors(Arch.SD15), path, metadata)
        made = load(Arch.SD15, path, prediction=option)
        assert made.pipeline.scheduler.config.prediction_type == wanted

    @pytest.mark.parametrize(("option", "wanted"), [(None, "v_prediction"), ("eps", "epsilon")])
    def test_of_a_folder(self, folder, option, wanted):
        path = folder(Arch.SD15)
        file = path / "scheduler" / "scheduler_config.json"
        config = json.loads(file.read_text()) | {"prediction_type": "v_prediction"}
        file.write_text(json.dumps(config))
        made = load(Arch.SD15, path, prediction=option)
        assert made.pipeline.scheduler.config.prediction_type == wanted
