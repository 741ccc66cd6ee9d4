"""The ten layer methods, as one table.

Standard library only. Everything a method implies (frames, batch size, inputs, what is decoded,
which fields the panel shows) is derived from `METHODS`; adding a method is one entry here.

Source: the files of `LayerDiffusion/layerdiffusion-v1` and the original extension's labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .errors import unknown_name
from .released import WEIGHT_FILES, WeightFile


class Layer(str, Enum):
    """One image of a set; the value is its name in file names, the API and the infotext."""

    FG = "fg"
    BG = "bg"
    BLENDED = "blended"

    @property
    def label(self) -> str:
        """The layer's name for people."""
        return {"fg": "Foreground", "bg": "Background", "blended": "Blended"}[self.value]


class Arch(str, Enum):
    """A checkpoint family; the value is its name for people."""

    SD15 = "SD1.5"
    SDXL = "SDXL"


class PatchKind(str, Enum):
    """How a method changes the UNet."""

    ATTENTION_SHARING = "attention sharing"
    WEIGHTS = "weights"


DECODERS = {
    Arch.SD15: WEIGHT_FILES["layer_sd15_vae_transparent_decoder"],
    Arch.SDXL: WEIGHT_FILES["vae_transparent_decoder"],
}
ENCODERS = {
    Arch.SD15: WEIGHT_FILES["layer_sd15_vae_transparent_encoder"],
    Arch.SDXL: WEIGHT_FILES["vae_transparent_encoder"],
}


@dataclass(frozen=True)
class LayerMethod:
    """One way to make layers.

    Attributes:
        id: Stable name in the API, the command line and settings.
        label: Its name for people, one of those that the original extension wrote to infotexts.
        arch: Checkpoint family it belongs to.
        patch: How it changes the UNet.
        weights: Its weight file.
        inputs: Conditioning images it needs, in the order of their concat channels.
        outputs: The layers of one set, in frame order.
    """

    id: str
    label: str
    arch: Arch
    patch: PatchKind
    weights: WeightFile
    inputs: tuple[Layer, ...]
    outputs: tuple[Layer, ...]

    @property
    def frames(self) -> int:
        """Images in one set."""
        return len(self.outputs)

    @property
    def decodes(self) -> bool:
        """Whether a set holds a transparent image."""
        return Layer.FG in self.outputs

    @property
    def fg_frame(self) -> int | None:
        """Frame of the transparent image, or None."""
        return self.outputs.index(Layer.FG) if self.decodes else None

    @property
    def layer_prompts(self) -> tuple[Layer, ...]:
        """Layers that may have a prompt of their own."""
        return self.outputs if self.frames > 1 else ()

    @property
    def composes(self) -> bool:
        """Whether a set has a foreground and a background, made or given."""
        return {Layer.FG, Layer.BG} <= {*self.inputs, *self.outputs}

    @property
    def needs_resize(self) -> bool:
        """Whether conditioning images have to be fitted to the job's size."""
        return bool(self.inputs)

    @property
    def concat_channels(self) -> int:
        """Latent channels put beside the noisy latent at the UNet's first convolution."""
        return 4 * len(self.inputs) if self.patch is PatchKind.WEIGHTS else 0

    @property
    def uses_control(self) -> bool:
        """Whether the sharing module's control encoder reads an image."""
        return self.patch is PatchKind.ATTENTION_SHARING and bool(self.inputs)

    @property
    def weight_files(self) -> tuple[WeightFile, ...]:
        """Every file a run needs."""
        return (self.weights, DECODERS[self.arch]) if self.decodes else (self.weights,)

    @property
    def aliases(self) -> tuple[str, ...]:
        """Every spelling of the label that infotexts carry, the current one first."""
        suffix = f" (need batch size {self.frames})" if self.frames > 1 else ""
        spellings = (self.label, self.label + suffix, self.label.removeprefix("(SDXL) "))
        return tuple(dict.fromkeys(spellings))


def _method(
    id: str,
    arch: Arch,
    stem: str,
    inputs: tuple[Layer, ...],
    outputs: tuple[Layer, ...],
    label: str,
) -> LayerMethod:
    patch = PatchKind.ATTENTION_SHARING if arch is Arch.SD15 else PatchKind.WEIGHTS
    full = f"({arch.value}) {label}"
    return LayerMethod(id, full, arch, patch, WEIGHT_FILES[stem], inputs, outputs)


_FG, _BG, _BLENDED = Layer.FG, Layer.BG, Layer.BLENDED

METHODS: tuple[LayerMethod, ...] = (
    _method(
        "fg_attn_sd15",
        Arch.SD15,
        "layer_sd15_transparent_attn",
        (),
        (_FG,),
        "Only Generate Transparent Image (Attention Injection)",
    ),
    _method(
        "fg_to_bg_sd15",
        Arch.SD15,
        "layer_sd15_fg2bg",
        (_FG,),
        (_BG, _BLENDED),
        "From Foreground to Background",
    ),
    _method(
        "bg_to_fg_sd15",
        Arch.SD15,
        "layer_sd15_bg2fg",
        (_BG,),
        (_FG, _BLENDED),
        "From Background to Foreground",
    ),
    _method(
        "joint_sd15",
        Arch.SD15,
        "layer_sd15_joint",
        (),
        (_FG, _BG, _BLENDED),
        "Generate Everything Together",
    ),
    _method(
        "fg_attn_sdxl",
        Arch.SDXL,
        "layer_xl_transparent_attn",
        (),
        (_FG,),
        "Only Generate Transparent Image (Attention Injection)",
    ),
    _method(
        "fg_conv_sdxl",
        Arch.SDXL,
        "layer_xl_transparent_conv",
        (),
        (_FG,),
        "Only Generate Transparent Image (Conv Injection)",
    ),
    _method(
        "fg_to_blended_sdxl",
        Arch.SDXL,
        "layer_xl_fg2ble",
        (_FG,),
        (_BLENDED,),
        "From Foreground to Blending",
    ),
    _method(
        "fg_blended_to_bg_sdxl",
        Arch.SDXL,
        "layer_xl_fgble2bg",
        (_FG, _BLENDED),
        (_BG,),
        "From Foreground and Blending to Background",
    ),
    _method(
        "bg_to_blended_sdxl",
        Arch.SDXL,
        "layer_xl_bg2ble",
        (_BG,),
        (_BLENDED,),
        "From Background to Blending",
    ),
    _method(
        "bg_blended_to_fg_sdxl",
        Arch.SDXL,
        "layer_xl_bgble2fg",
        (_BG, _BLENDED),
        (_FG,),
        "From Background and Blending to Foreground",
    ),
)


METHOD_NAMES = {name: m for m in METHODS for name in (m.id, *m.aliases)}
"""The methods by id, by label, and by any label the original ever wrote."""


def find_method(name: str) -> LayerMethod:
    """Returns the method called `name`: one of `METHOD_NAMES`, in letters of either case.

    Raises:
        SettingsError: No method is called so.
    """
    wanted = str(name).strip()
    folded = (m for known, m in METHOD_NAMES.items() if known.casefold() == wanted.casefold())
    found = METHOD_NAMES.get(wanted) or next(folded, None)
    if found is None:
        raise unknown_name("method", name, METHOD_NAMES, field="method")
    return found
