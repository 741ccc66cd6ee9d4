"""The ten layer methods and the weight files they need, as one table.

Standard library only. Everything a method implies (frames, batch size, inputs, what is decoded,
which fields the panel shows) is derived from `METHODS`; adding a method is one entry here.

Source: the files of `LayerDiffusion/layerdiffusion-v1` and the original extension's labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .errors import unknown_name

HUB_REPO = "LayerDiffusion/layerdiffusion-v1"
HUB_REVISION = "e337e9d7a0f2a6fee6c3580374327380f88d065b"


class Layer(str, Enum):
    """One picture of a set; the value is its name in file names, the API and the infotext."""

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


@dataclass(frozen=True)
class WeightFile:
    """One released file.

    Attributes:
        stem: File name without `.safetensors`.
        sha256: Hash of the released file, lower-case hex.
        size: Bytes of the released file, or None where it is not published exactly.
    """

    stem: str
    sha256: str
    size: int | None = None

    @property
    def filename(self) -> str:
        return f"{self.stem}.safetensors"


def _files(*rows: tuple[str, int | None, str]) -> dict[str, WeightFile]:
    return {stem: WeightFile(stem, sha256, size) for stem, size, sha256 in rows}


WEIGHT_FILES: dict[str, WeightFile] = _files(
    (
        "layer_xl_transparent_attn",
        743_352_688,
        "b7919c5b4837fb64f24c97a7abdf1a9c6e8d60de080a5dae089dde098266df95",
    ),
    (
        "layer_xl_transparent_conv",
        3_619_745_776,
        "5ee958d80dcd515fa7ac915274c536fadd3db5d919adeb5ff45107b6169aacc7",
    ),
    (
        "layer_xl_fg2ble",
        701_981_624,
        "50a29851ad56308f14d6c9ed375be17df6921efeca240b31f567f6b8c76d1e70",
    ),
    (
        "layer_xl_fgble2bg",
        None,
        "179a61fdcdb149af1897b2840f24ba09466ab6265b2c792b0e99df557f0439be",
    ),
    (
        "layer_xl_bg2ble",
        701_981_624,
        "2901d1353cc4ca763c8bedc48453b36e88680605f417c7f7ec730a7c36845d7c",
    ),
    (
        "layer_xl_bgble2fg",
        None,
        "1688f0c17447f74662686fadd431f24d26a1ba8ffea322c6f56c8b5ed581b78d",
    ),
    (
        "vae_transparent_encoder",
        2_365_008,
        "47d048bd7c6f873b55d123ff424c0b584bbfb8a666f20aa634336e922f5c821c",
    ),
    (
        "vae_transparent_decoder",
        208_266_320,
        "59dc8feefe40d26b6cb7186aed7af70c60d94ac4f9db8ebe7f121a01ba27a2fc",
    ),
    (
        "layer_sd15_transparent_attn",
        350_266_608,
        "cc9ee87452bf1ccdd419035bf9618f6bdcaac1a2d3e23694d62e5a9c721da295",
    ),
    (
        "layer_sd15_joint",
        554_404_208,
        "2cc81c33c1a786bdc376c6d1bfb43dbdffda2f610f7c6b4ebd776505a29712bd",
    ),
    (
        "layer_sd15_fg2bg",
        562_982_312,
        "5bade856ec3e55d6ceb0e35bbc97cea7fa4953f7776c8032f2fe52ba740ed580",
    ),
    (
        "layer_sd15_bg2fg",
        562_982_312,
        "8367f976da1cc4275e513c7fb40f977ca312e79e720d7db7ae94978a9359fb62",
    ),
    (
        "layer_sd15_vae_transparent_encoder",
        2_365_008,
        "4c6bd4fa714bcdc83ee73fac9092f0723c5cafc60befccf490c697c0a378725a",
    ),
    (
        "layer_sd15_vae_transparent_decoder",
        208_266_320,
        "6df4712dfbb3783231b22f869a5da5cbfea782ebb05f782bd9e8744bfb0cdf03",
    ),
)

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
        inputs: Conditioning pictures it needs, in the order of their concat channels.
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
        """Pictures in one set."""
        return len(self.outputs)

    @property
    def decodes(self) -> bool:
        """Whether a set holds a transparent picture."""
        return Layer.FG in self.outputs

    @property
    def fg_frame(self) -> int | None:
        """Frame of the transparent picture, or None."""
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
        """Whether conditioning pictures have to be fitted to the job's size."""
        return bool(self.inputs)

    @property
    def concat_channels(self) -> int:
        """Latent channels put beside the noisy latent at the UNet's first convolution."""
        return 4 * len(self.inputs) if self.patch is PatchKind.WEIGHTS else 0

    @property
    def uses_control(self) -> bool:
        """Whether the sharing module's control encoder reads a picture."""
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
    """Returns the method called `name`: one of `METHOD_NAMES`.

    Raises:
        SettingsError: No method is called so.
    """
    found = METHOD_NAMES.get(str(name).strip())
    if found is None:
        raise unknown_name("method", name, METHOD_NAMES, field="method")
    return found
