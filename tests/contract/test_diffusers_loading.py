"""Which checkpoints load, without a network, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

from safetensors.torch import save_file
from shrunk_files import random_tensors, real_shapes
from tiny_diffusers import checkpoint, host, load
from torch import Tensor
from transformers import CLIPTokenizer

from lib_layerdiffuse.errors import (
    ArchMismatchError,
    LayerDiffuseError,
    MissingCapabilityError,
    WeightsError,
    WeightsNotFoundError,
)
from lib_layerdiffuse.hosts.diffusers import Sampling
from lib_layerdiffuse.hosts.diffusers.families import family_of_shapes
from lib_layerdiffuse.hosts.diffusers.loading import CONFIGS
from lib_layerdiffuse.methods import Arch

CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
CROSS = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr("socket.socket.connect", refuse)


def latents(one, **more: object) -> Tensor:
    given = {"steps": 2, "cfg": 5.0, "sampler": "Euler", "width": 64, "height": 64} | more
    return one.sample(Sampling(["a cat"], ["dog"], [1], **given))


@pytest.fixture(scope="module", params=list(Arch), ids=lambda arch: arch.name)
def folder(request, tmp_path_factory) -> tuple[Arch, Path]:
    path = tmp_path_factory.mktemp("folder") / "model"
    host(request.param).pipeline.save_pretrained(path)
    return request.param, path


class TestFolders:
    def test_a_folder_and_a_file_are_one_model(self, folder):
        arch, path = folder
        loaded = load(arch, path)
        assert (loaded.arch(), loaded.name, loaded.model_hash) == (arch, "model", None)
        assert torch.allclose(latents(loaded), latents(host(arch)), rtol=1e-4, atol=1e-3)

    def test_one_with_half_precision_files_only(self, folder, tmp_path):
        arch, path = folder
        saved = load(arch, path, dtype=torch.float16).pipeline
        saved.save_pretrained(tmp_path / "half", variant="fp16")
        assert load(arch, tmp_path / "half").pipeline.unet.dtype == torch.float32

    @pytest.mark.parametrize(
        ("file", "change", "error", "message"),
        [
            ("unet/config.json", {"in_channels": 9}, MissingCapabilityError, "inpainting"),
            ("model_index.json", {"_class_name": "FluxPipeline"}, ArchMismatchError, "FluxPipe"),
            ("model_index.json", {"text_encoder": [None, None]}, LayerDiffuseError, "text encoder"),
        ],
    )
    def test_other_models_are_refused(self, folder, file, change, error, message, tmp_path):
        _, path = folder
        for name in ("unet/config.json", "model_index.json"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            values = json.loads((path / name).read_text())
            (tmp_path / name).write_text(json.dumps(values | (change if name == file else {})))
        with pytest.raises(error, match=message):
            load(Arch.SD15, tmp_path)

    def test_an_sd2_folder_is_refused(self, tmp_path):
        (tmp_path / "unet").mkdir()
        index = {"_class_name": "StableDiffusionPipeline", "text_encoder": ["transformers", "C"]}
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        (tmp_path / "unet" / "config.json").write_text('{"use_linear_projection": true}')
        with pytest.raises(ArchMismatchError, match="SD2"):
            load(Arch.SD15, tmp_path)

    def test_a_folder_of_something_else_says_what_it_lacks(self, tmp_path):
        with pytest.raises(WeightsNotFoundError, match=r"model_index\.json"):
            load(Arch.SD15, tmp_path)


class TestFiles:
    @pytest.mark.parametrize("arch", list(Arch))
    def test_a_file_is_known_by_its_name_and_hash(self, arch):
        data = checkpoint(arch).read_bytes()
        assert host(arch).arch() is arch
        assert host(arch).name == arch.name.lower()
        assert host(arch).model_hash == hashlib.sha256(data).hexdigest()[:10]

    @pytest.mark.parametrize(("layout", "arch"), [("sd15", Arch.SD15), ("sdxl", Arch.SDXL)])
    def test_the_published_checkpoints_are_told_apart(self, layout, arch):
        shapes = {key: tuple(shape) for key, shape in real_shapes(f"{layout}_checkpoint").items()}
        family = family_of_shapes(shapes)
        assert (family.arch, family.v_prediction, family.zero_snr) == (arch, False, False)
        assert family_of_shapes(shapes | {"v_pred": (0,)}).v_prediction

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({CONV_IN: (320, 9, 3, 3)}, MissingCapabilityError, "9 channels"),
            ({CONV_IN: (320, 8, 3, 3)}, MissingCapabilityError, "editing"),
            ({CROSS: (320, 1024)}, ArchMismatchError, "SD2"),
            ({CROSS: (320, 1280)}, ArchMismatchError, "refiner"),
            ({CROSS: (320, 2048)}, ArchMismatchError, "another model"),
            ({CONV_IN: None}, ArchMismatchError, "Flux"),
            ({"first_stage_model.a": None}, WeightsError, "without its VAE"),
            ({"cond_stage_model.a": None}, WeightsError, "without its text encoder"),
        ],
    )
    def test_others_are_refused(self, change, error, message):
        shapes = {
            CONV_IN: (320, 4, 3, 3),
            CROSS: (320, 768),
            "first_stage_model.a": (1,),
            "cond_stage_model.a": (1,),
        }
        kept = {key: shape for key, shape in (shapes | change).items() if shape}
        with pytest.raises(error, match=message):
            family_of_shapes(kept)

    def test_a_pickle_is_refused_unread(self, tmp_path):
        path = tmp_path / "model.ckpt"
        path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        with pytest.raises(WeightsError, match=r"is a pickle\. Convert it to safetensors"):
            load(Arch.SD15, path)

    def test_a_missing_one_and_a_damaged_one(self, tmp_path):
        path = tmp_path / "model.safetensors"
        with pytest.raises(WeightsNotFoundError, match="There is no"):
            load(Arch.SD15, path)
        path.write_bytes(b"<html>")
        with pytest.raises(WeightsError, match="Download it again"):
            load(Arch.SD15, path)

    def test_one_without_a_part_of_its_unet(self, tmp_path):
        tensors = {k: t for k, t in random_tensors(Arch.SD15).items() if "output_blocks.3" not in k}
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(WeightsError, match="complete"):
            load(Arch.SD15, tmp_path / "model.safetensors")

    def test_velocity_models_are_sampled_as_such(self, tmp_path):
        marked = random_tensors(Arch.SDXL) | {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}
        save_file(marked, tmp_path / "model.safetensors")
        config = load(Arch.SDXL, tmp_path / "model.safetensors").pipeline.scheduler.config
        assert config.prediction_type == "v_prediction"
        assert config.rescale_betas_zero_snr

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_types(self, dtype):
        loaded = load(Arch.SDXL, dtype=dtype)
        assert loaded.pipeline.unet.dtype == loaded.pipeline.text_encoder_2.dtype == dtype
        # Its numbers do not fit into float16.
        vae = torch.float32 if dtype == torch.float16 else dtype
        assert loaded.pipeline.vae.dtype == vae
        assert latents(loaded).dtype == torch.float32


@pytest.fixture(scope="module")
def clip() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(CONFIGS / "tokenizer")


class TestTokenizer:
    """CLIP's own, from the package's files."""

    def test_it_has_a_token_for_each_row_of_the_published_text_encoders(self, clip):
        encoders = [json.loads(p.read_text()) for p in CONFIGS.glob("*/text_encoder*/config.json")]
        assert len(encoders) == 3
        for encoder in encoders:
            assert encoder["vocab_size"] == len(clip) == 49408
            assert encoder["bos_token_id"] == clip.bos_token_id == 49406
            assert encoder["eos_token_id"] == clip.eos_token_id == 49407

    def test_its_files_are_the_published_ones(self):
        merges = (CONFIGS / "tokenizer" / "merges.txt").read_text("utf-8")
        # Of merges.txt in openai/clip-vit-large-patch14 on the Hugging Face Hub.
        wanted = "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"
        assert hashlib.sha256(merges.encode()).hexdigest() == wanted

    @pytest.mark.parametrize(
        ("text", "tokens"),
        [
            ("", []),
            ("a photo of a cat", [320, 1125, 539, 320, 2368]),
            ("A  Photo\nof a CAT", [320, 1125, 539, 320, 2368]),
            ("hello world!", [3306, 1002, 256]),
            ("don't", [847, 713]),
            ("3 dogs", [274, 3255]),
        ],
    )
    def test_texts_become_clips_tokens(self, clip, text, tokens):
        found = clip(text, padding="max_length").input_ids
        assert found == [49406, *tokens, *[49407] * (76 - len(tokens))]

    def test_sdxls_second_one_pads_with_an_exclamation_mark(self):
        made = load(Arch.SDXL).pipeline
        assert (made.tokenizer.pad_token, made.tokenizer_2.pad_token) == ("<|endoftext|>", "!")
        plain = CLIPTokenizer.from_pretrained(CONFIGS / "tokenizer", pad_token="!")
        assert plain("cat", padding="max_length").input_ids == [49406, 2368, 49407, *[0] * 74]
