"""Step 6: one layer method's weight file, on top of the frozen base model.

SD1.5's files hold attention sharing, SDXL's LoRAs or differences of weights: the released files'
own formats. A method of several frames starts from what was trained before: the LoRAs that the
foreground method has for a foreground, all that the joint method has for the frames that both
draw, and the control encoder of `training.control`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lib_layerdiffuse.hosts.diffusers.parameter_names import PREFIX, diffusers_name, module_names
from lib_layerdiffuse.methods import METHODS, Layer, LayerMethod, PatchKind, find_method

from . import control
from .base import Noise
from .batches import Batch, Batches, caption
from .captions import Texts, load_model
from .data import Scenes
from .export import save
from .loop import Plan, Trainer, arguments, set_up
from .sharing_net import CONTROL_WIDTHS, LoRA, Sharing

RANK = 6
ROWS = 32
"""Images in a batch, about."""
Call = Callable[[Batch, Tensor, Tensor], Tensor]


def sharing(unet: Any, method: LayerMethod, data: Path) -> tuple[nn.Module, Call, Any]:
    """Returns what is trained for SD1.5, the UNet call with it and how to get its tensors."""
    net = Sharing(unet, method.frames, RANK, CONTROL_WIDTHS if method.uses_control else ())
    for name in ("fg_attn_sd15", "joint_sd15"):
        first = find_method(name)
        file = data / "layer_model" / first.weights.filename
        if first.frames != method.frames and file.exists() and method.frames > 1:
            start_from(net, method, load_file(file), first)
    if net.kwargs_encoder is not None and (data / control.FILE).exists():
        net.kwargs_encoder.load_state_dict(torch.load(data / control.FILE, weights_only=True))

    def call(batch: Batch, noised: Tensor, t: Tensor) -> Tensor:
        net.look_at(batch.control)
        return unet(noised, t, **batch.context).sample

    return net, call, net.tensors


def start_from(
    net: Sharing, method: LayerMethod, tensors: dict[str, Tensor], first: LayerMethod
) -> None:
    """Gives a method's frames the LoRAs that another method's file has for the same layers.

    Args:
        net: What is to be trained.
        method: Its method.
        tensors: The other method's file.
        first: The other method. What its frames share is taken over too, if it has several.
    """
    state = net.state_dict()
    for key, tensor in tensors.items():
        name = key.removeprefix("hookers.")
        module, lora, rest = name.partition("_lora.")
        if lora:
            frame, _, part = rest.partition(".")
            layer = first.outputs[int(frame)]
            if layer in method.outputs:
                state[f"{module}_lora.{method.outputs.index(layer)}.{part}"] = tensor.float()
        elif first.frames > 1 and name in state:
            state[name] = tensor.float()
    net.load_state_dict(state)


class AddedLoRA(nn.Module):
    """A linear layer with a LoRA beside it."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base, self.lora = base, LoRA(base.in_features, base.out_features, rank)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the sum of both."""
        out: Tensor = self.base(x) + self.lora(x)
        return out


def loras(unet: Any) -> tuple[nn.Module, Callable[[], dict[str, Tensor]]]:
    """Puts a LoRA on every projection of every attention; returns them and their tensors."""
    added: dict[str, AddedLoRA] = {}
    for name, module in list(unet.named_modules()):
        if name.rpartition(".")[2] in ("attn1", "attn2"):
            for part in ("to_q", "to_k", "to_v"):
                added[f"{name}.{part}"] = AddedLoRA(getattr(module, part), RANK)
                setattr(module, part, added[f"{name}.{part}"])
            added[f"{name}.to_out.0"] = AddedLoRA(module.to_out[0], RANK)
            module.to_out[0] = added[f"{name}.to_out.0"]
    net = nn.ModuleList(layer.lora for layer in added.values())
    ldm = ldm_names(unet)

    def tensors() -> dict[str, Tensor]:
        found = {}
        for name, layer in added.items():
            key = ldm(f"{name}.weight")
            found[f"{key}::lora::0"] = layer.lora.up.weight
            found[f"{key}::lora::1"] = layer.lora.down.weight
        return found

    return net, tensors


def differences(
    unet: Any, method: LayerMethod
) -> tuple[nn.Module, Callable[[], dict[str, Tensor]]]:
    """Frees the parameters that the method's released file holds; returns them and their change.

    Those are all but the attention's q, k and v and the embeddings, or, for a method whose output
    is opaque, all outside the spatial transformers.
    """
    before = {name: p.detach().clone() for name, p in unet.named_parameters()}
    if method.concat_channels:
        _widen(unet.conv_in, method.concat_channels)
    transparent = Layer.FG in method.outputs
    ldm = ldm_names(unet)
    for name, parameter in unet.named_parameters():
        parts = name.split(".")
        outside = not {"attentions", "time_embedding", "add_embedding"} & set(parts)
        inside = "attentions" in parts and not {"to_q", "to_k", "to_v"} & set(parts)
        parameter.requires_grad_(outside or (transparent and inside))

    def tensors() -> dict[str, Tensor]:
        found = {}
        for name, parameter in unet.named_parameters():
            if parameter.requires_grad:
                delta = parameter.detach().clone()
                old = before[name]
                delta[tuple(slice(n) for n in old.shape)] -= old
                found[f"{ldm(name)}::diff::0"] = delta
        return found

    return unet, tensors


def _widen(conv_in: nn.Conv2d, channels: int) -> None:
    """Gives a convolution more input channels, at first without effect."""
    old = conv_in.weight.detach()
    new = torch.zeros(old.shape[0], old.shape[1] + channels, *old.shape[2:])
    new[:, : old.shape[1]] = old
    conv_in.weight, conv_in.in_channels = nn.Parameter(new), new.shape[1]


def ldm_names(unet: Any) -> Callable[[str], str]:
    """Returns the function from a parameter's name in diffusers to its key in a weight file."""
    back = {ours: ldm for ldm, ours in module_names(unet.config).items()}
    return lambda key: f"{PREFIX}{diffusers_name(back, key)}"


def weight_patches(unet: Any, method: LayerMethod) -> tuple[nn.Module, Call, Any]:
    """Returns what is trained for SDXL, the UNet call with it and how to get its tensors."""
    attention = method.weights.filename.endswith("_attn.safetensors")
    net, tensors = loras(unet) if attention else differences(unet, method)

    def call(batch: Batch, noised: Tensor, t: Tensor) -> Tensor:
        x = noised if batch.concat is None else torch.cat([noised, batch.concat], dim=1)
        return unet(x, t, **batch.context).sample

    return net, call, tensors


def train(method: LayerMethod, data: Path, plan: Plan, seed: int = 0) -> Path:
    """Trains a method on the scenes and returns its weight file."""
    model = load_model(method.arch, data)
    pairs = Scenes.open(data).captions
    layers = (*method.outputs, Layer.BLENDED)
    texts = Texts(model, [caption(layer, *pair) for pair in pairs for layer in layers])
    net, call, tensors = (
        sharing(model.unet, method, data)
        if method.patch is PatchKind.ATTENTION_SHARING
        else weight_patches(model.unet, method)
    )
    batches, noises = Batches(method, data, texts, seed), Noise()
    trainer = Trainer(net, plan, data / f"{method.id}.pt")

    def loss() -> Tensor:
        batch = batches.draw(ROWS // method.frames)
        sets = len(batch.clean) // method.frames
        t = torch.randint(0, 1000, (sets,)).repeat_interleave(method.frames)
        noise = torch.randn_like(batch.clean)
        return noises.loss(call(batch, noises.add(batch.clean, noise, t), t), noise, t)

    trainer.run(loss)
    path = data / "layer_model" / method.weights.filename
    save(tensors(), path)
    return path


if __name__ == "__main__":
    parser = arguments(__doc__, minutes=10)
    parser.add_argument("method", choices=[method.id for method in METHODS])
    parser.add_argument("--rate", type=float, default=2e-3)
    options = parser.parse_args()
    set_up(0, options.threads)
    chosen = find_method(options.method)
    plan = Plan(options.minutes, rate=options.rate, average=0.99)
    print(train(chosen, options.data, plan))
