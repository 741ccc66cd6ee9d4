"""What `make demo` shows: every kind of layer, drawn by the tiny family, one made from another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..callbacks import OnProgress
from ..imaging.images import ImageU8, from_u8
from ..methods import Layer, LayerMethod, find_method
from ..outputs import over
from ..settings.layer_settings import LayerSettings
from ..standalone.defaults import defaults
from ..standalone.generation import Generation, LayerImage
from ..standalone.models import ModelChoice, Models
from ..standalone.output import write_png
from ..standalone.run import run
from ..standalone.sheet import SheetRow, Tile, contact_sheet
from ..standalone.two_steps import run_chain
from .demo_page import write_page
from .exhibits import Exhibit, Part, Plan

OnPart = Callable[[int, int, str], None]


_FG, _BG, _BLENDED = Layer.FG, Layer.BG, Layer.BLENDED

PLANS: tuple[Plan, ...] = (
    Plan(
        "1-subject",
        "A transparent subject, SD1.5",
        "fg_attn_sd15",
        {_FG: "a large blue glass ball"},
    ),
    Plan("2-subject", "Another one, SDXL", "fg_attn_sdxl", {_FG: "an orange flame"}),
    Plan(
        "3-joint",
        "Everything together",
        "joint_sd15",
        {
            _FG: "a purple butterfly",
            _BG: "a green meadow",
            _BLENDED: "a purple butterfly, a green meadow",
        },
    ),
    Plan(
        "4-background",
        "A background for the glass ball",
        "fg_to_bg_sd15",
        {_BG: "a sunset", _BLENDED: "a large blue glass ball, a sunset"},
        ("1-subject", _FG),
    ),
    Plan(
        "5-foreground",
        "A foreground for the meadow",
        "bg_to_fg_sd15",
        {_FG: "a red mushroom", _BLENDED: "a red mushroom, a green meadow"},
        ("3-joint", _BG),
    ),
    Plan(
        "6-chain",
        "Both SDXL steps: onto the sunset, and off it again",
        "bg_to_blended_sdxl",
        {_BLENDED: "a yellow star, a sunset", _FG: "a yellow star"},
        ("4-background", _BG),
    ),
)


def run_demo(
    out: Path,
    models: Models,
    *,
    plans: Sequence[Plan] = PLANS,
    steps: int | None = None,
    on_part: OnPart | None = None,
    on_progress: OnProgress | None = None,
) -> list[Part]:
    """Makes the parts one after the other, and writes images, sheet.png and index.html.

    Args:
        out: A folder, made if need be. Files of the same names are replaced.
        models: Loads the tiny family.
        plans: What to make.
        steps: Of each run; None for as many as usual.
        on_part: Told of each part before it is made: its number from 1, of how many, its title.
        on_progress: As in `run`.

    Raises:
        LayerDiffuseError: Something cannot work or be written.
    """
    parts: list[Part] = []
    for number, plan in enumerate(plans, start=1):
        if on_part is not None:
            on_part(number, len(plans), plan.title)
        part = _make(plan, parts, models, steps, on_progress, out)
        parts.append(part)
        for one in part.exhibits:
            write_png(one.path, one.pixels, one.infotext)
    write_png(out / "sheet.png", contact_sheet(list(_rows(parts))))
    write_page(out / "index.html", parts)
    return parts


def _rows(parts: Sequence[Part]) -> Iterator[SheetRow]:
    """Yields a row for each part; parts of one image that follow each other share one."""
    titles: list[str] = []
    shown: list[Tile] = []
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        titles.append(part.plan.title)
        shown += [Tile(one.pixels, one.caption) for one in part.exhibits]
        if after is None or len(part.exhibits) > 1 or len(after.exhibits) > 1:
            yield SheetRow(" · ".join(titles), shown)
            titles, shown = [], []


def _make(
    plan: Plan,
    earlier: Sequence[Part],
    models: Models,
    steps: int | None,
    on_progress: OnProgress | None,
    out: Path,
) -> Part:
    method = find_method(plan.method)
    given = _given(plan, earlier)
    host, session = models.open(ModelChoice(), method.arch)
    job = _job(plan, method, given, steps)
    if plan.given is not None and method.outputs == (_BLENDED,):
        chain = run_chain(job, session, host, on_progress=on_progress)
        made = [image for step in chain for image in step.images]
    else:
        made = run(job, session, host, on_progress=on_progress)
    return Part(plan, list(_exhibits(plan, given, made, out)))


def _given(plan: Plan, earlier: Sequence[Part]) -> ImageU8 | None:
    if plan.given is None:
        return None
    name, layer = plan.given
    return next(part for part in earlier if part.plan.name == name).pixels(layer.value)


def _job(plan: Plan, method: LayerMethod, given: ImageU8 | None, steps: int | None) -> Generation:
    author = defaults(method, tiny=True)
    settings: dict[str, object] = {"method": method}
    if plan.given is not None and given is not None:
        settings[f"{plan.given[1].value}_image"] = from_u8(given)
    several = len(plan.prompts) > 1
    if several:
        settings |= {f"{layer.value}_prompt": text for layer, text in plan.prompts.items()}
    return Generation(
        settings=LayerSettings.from_args([settings]),
        prompt="" if several else next(iter(plan.prompts.values())),
        width=author.side,
        height=author.side,
        seed=plan.seed,
        steps=steps or author.steps,
        cfg=author.cfg,
        sampler=author.sampler,
    )


def _exhibits(
    plan: Plan, given: ImageU8 | None, made: Sequence[LayerImage], out: Path
) -> Iterator[Exhibit]:
    layers = {image.layer: image.image for image in made}
    if plan.given is not None and given is not None:
        layer = plan.given[1]
        layers[layer] = given
        yield _exhibit(plan, "given", f"{layer.label}, given", given, out)
    for image in made:
        caption = f"{image.layer.label}: “{plan.prompts[image.layer]}”"
        name = image.layer.value
        yield _exhibit(plan, name, caption, image.image, out, image.infotext)
    if _FG in layers and _BG in layers:
        caption = "True composite: the foreground over the background"
        yield _exhibit(plan, "composite", caption, over(layers[_FG], layers[_BG]), out)


def _exhibit(
    plan: Plan, name: str, caption: str, pixels: ImageU8, out: Path, infotext: str = ""
) -> Exhibit:
    return Exhibit(name, caption, pixels, infotext, out / f"{plan.name}-{name}.png")
