"""The released weight files: where they are, their sizes and hashes. Standard library only.

Source: the files of `LayerDiffusion/layerdiffusion-v1`.
"""

from __future__ import annotations

from dataclasses import dataclass

HUB_REPO = "LayerDiffusion/layerdiffusion-v1"
HUB_REVISION = "e337e9d7a0f2a6fee6c3580374327380f88d065b"


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
