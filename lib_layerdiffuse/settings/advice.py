"""What helps where a foreground came out opaque or empty."""

from __future__ import annotations

from ..imaging.coverage import Verdict
from ..methods import Arch
from .layer_settings import LayerSettings


def advice(verdict: Verdict, settings: LayerSettings) -> str | None:
    """Returns what to tell the user about a foreground, or None if there is nothing to tell.

    Source: reports of the original extension's users.
    """
    if verdict is Verdict.TRANSPARENT:
        return None
    if not settings.acts:
        return f"a foreground came out {verdict.value}, since weight or stop-at is 0."
    if verdict is Verdict.EMPTY:
        return (
            "a foreground came out empty: there is nothing to see in it. Name one thing in the "
            "prompt, or try another seed."
        )
    return f"a foreground came out opaque, without transparency. {_remedies(settings)}"


def _remedies(settings: LayerSettings) -> str:
    remedies = [
        "Describe the thing alone, without a scene; words like "
        '"simple background, gray background" help, since a plain mid-grey background is what '
        "becomes transparent."
    ]
    if settings.strength < 1 or settings.stop_at < 1:
        remedies.insert(0, "Set weight and stop-at to 1.")
    if settings.method.arch is Arch.SDXL:
        remedies.append(
            "Some checkpoints do this with most prompts, as the method was made on base SDXL: "
            "Illustrious, NoobAI, Animagine, v-prediction and Lightning ones. Use one nearer to "
            "base SDXL; a Lightning LoRA on an ordinary checkpoint works."
        )
    return " ".join(remedies)
