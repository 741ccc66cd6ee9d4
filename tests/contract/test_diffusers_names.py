"""The name mapper: every key of the published files, and UNets of other depths."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from shrunk_files import UNET, real_shapes

from lib_layerdiffuse.hosts.diffusers.loading import CONFIGS
from lib_layerdiffuse.hosts.diffusers.parameter_names import PREFIX, diffusers_name, module_names
from lib_layerdiffuse.methods import Arch
from lib_layerdiffuse.weights.patches import ATTENTION_SLOTS, CONV_IN

LAYOUTS = {Arch.SD15: "sd15_checkpoint", Arch.SDXL: "sdxl_checkpoint"}


def config_of(arch: Arch) -> dict:
    return UNet2DConditionModel.load_config(CONFIGS / arch.name.lower() / "unet")


def unet_of(config: dict) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config)


@pytest.fixture(scope="module", params=list(Arch), ids=lambda arch: arch.name)
def real(request: pytest.FixtureRequest) -> tuple[Arch, UNet2DConditionModel]:
    return request.param, unet_of(config_of(request.param))


def test_every_key_of_a_checkpoint_is_one_parameter_of_the_same_shape(real):
    arch, unet = real
    names = module_names(unet.config)
    keys = {
        key.removeprefix("model."): shape
        for key, shape in real_shapes(LAYOUTS[arch]).items()
        if key.startswith(UNET)
    }
    mapped = {diffusers_name(names, key): shape for key, shape in keys.items()}

    assert len(mapped) == len(keys)
    assert mapped == {name: list(tensor.shape) for name, tensor in unet.state_dict().items()}


@pytest.mark.parametrize("layout", ["sdxl_attn", "sdxl_all_but_qkv", "sdxl_convs"])
def test_every_patch_of_a_released_file_fits_its_parameter(layout):
    unet = unet_of(config_of(Arch.SDXL))
    names, parameters = module_names(unet.config), unet.state_dict()
    for key, shape in real_shapes(layout).items():
        name, kind, part = key.split("::")
        wanted = list(parameters[diffusers_name(names, name)].shape)
        if name == CONV_IN:
            wanted[1] = shape[1]
        if kind == "lora":
            wanted = [wanted[0], 256] if part == "0" else [256, wanted[1]]
        assert shape == wanted, key


def test_the_attention_slots_are_the_sd15_attention_modules():
    unet = unet_of(config_of(Arch.SD15))
    names = module_names(unet.config)
    modules = [unet.get_submodule(diffusers_name(names, slot)) for slot in ATTENTION_SLOTS]

    assert {id(m) for m in modules} == {id(m) for m in unet.modules() if type(m) is Attention}
    assert [m.is_cross_attention for m in modules] == [False, True] * 16


@pytest.mark.parametrize(
    ("layers", "up"), [(1, ("UpBlock2D", "CrossAttnUpBlock2D")), ([1, 3], ("UpBlock2D",) * 2)]
)
def test_blocks_are_counted_as_the_configuration_says(layers, up):
    unet = unet_of(
        {
            "block_out_channels": (8, 16),
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": up,
            "layers_per_block": layers,
            "norm_num_groups": 2,
            "attention_head_dim": 2,
            "cross_attention_dim": 8,
        }
    )
    parameters = set(unet.state_dict())
    modules = set(module_names(unet.config).values())

    unmapped = {n for n in parameters if not any(n.startswith(f"{m}.") for m in modules)}
    assert not unmapped


@pytest.mark.parametrize("key", ["input_blocks.99.0.in_layers.0.weight", "time_embed", "", "x.y"])
def test_an_unknown_name_has_none(key):
    names = module_names(config_of(Arch.SDXL) | {"layers_per_block": 2})
    assert diffusers_name(names, f"{PREFIX}{key}") is None
