"""What the options of the commands that make images describe: generations and models."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..methods import Layer, LayerMethod
from .job_options import RESIZE_MODES
from .stores import store_of

if TYPE_CHECKING:
    from ..callbacks import OnDownload
    from ..settings.layer_settings import LayerSettings
    from ..standalone.generation import Generation
    from ..standalone.models import ModelChoice, Models


def generation_of(args: argparse.Namespace, method: LayerMethod) -> Generation:
    """Returns the generation that the options describe.

    Raises:
        SettingsError: An image cannot be read, or the method has no use for an option.
    """
    from ..imaging.reading import read_image
    from ..standalone.defaults import defaults, draw_seed
    from ..standalone.generation import Generation

    author = defaults(method, tiny=args.checkpoint is None)
    width, height = args.size or (author.side, author.side)
    init = getattr(args, "init", None)
    return Generation(
        settings=_settings(args, method, author.stop_at),
        prompt=args.prompt,
        negative_prompt=args.negative_prompt,
        width=width,
        height=height,
        sets=args.sets,
        seed=draw_seed(args.sets * method.frames) if args.seed < 0 else args.seed,
        steps=args.steps or author.steps,
        cfg=author.cfg if args.cfg is None else args.cfg,
        sampler=args.sampler or author.sampler,
        views=args.views,
        compiled=args.compiled,
        init=None if init is None else read_image(init),
        **({} if init is None or args.denoise is None else {"denoise": args.denoise}),
    )


def _settings(args: argparse.Namespace, method: LayerMethod, stop_at: float) -> LayerSettings:
    from ..imaging.reading import read_image
    from ..settings.layer_settings import LayerSettings

    images = {layer: getattr(args, layer.value, None) for layer in Layer}
    for layer in method.inputs:
        if images[layer] is None:
            raise SettingsError(
                f"{method.id} needs a {layer.label.lower()} image.",
                f"Give one with --{layer.value}.",
                field=f"{layer.value}_image",
            )
    given: dict[str, Any] = {
        "method": method,
        "weight": args.weight,
        "ending_step": stop_at if args.stop_at is None else args.stop_at,
        "resize_mode": RESIZE_MODES[args.resize_mode],
        "show_preview": args.preview,
        "show_matte": args.matte,
        "show_composite": args.composite,
        "show_raw": args.raw,
    }
    for layer, file in images.items():
        name = f"{layer.value}_image"
        given[name] = file and read_image(file, field=name)
        for kind in ("prompt", "negative_prompt"):
            given[f"{layer.value}_{kind}"] = getattr(args, f"{layer.value}_{kind}", "")
    return LayerSettings.from_args([given])


def refuse_unused(args: argparse.Namespace, method: LayerMethod) -> None:
    """Checks that nothing was given that the method would leave unread.

    Raises:
        SettingsError: Something was.
    """
    from ..settings.chains import unread

    given = {
        f"{layer.value}_{kind}"
        for layer in Layer
        for kind in ("prompt", "negative_prompt")
        if getattr(args, f"{layer.value}_{kind}")
    }
    given |= {f"{layer.value}_image" for layer in Layer if getattr(args, layer.value) is not None}
    found = unread(method, given, chain=False)
    if found:
        options = [f"--{name.removesuffix('_image').replace('_', '-')}" for name in found]
        raise SettingsError(
            f"{method.id} has no use for {' and '.join(options)}.",
            "Leave it out, or choose another method: see `layerdiffuse methods`.",
        )


def check_trim(args: argparse.Namespace) -> None:
    """Checks that there are files to trim layers in.

    Raises:
        SettingsError: There are none.
    """
    if args.trim and not args.layers:
        raise SettingsError("--trim needs --layers.", "Say which kind of file.")


def refuse_folders_of_tiny(args: argparse.Namespace) -> None:
    """Checks that no folder of layer files is named for the tiny family, which has its own.

    Raises:
        SettingsError: One is.
    """
    named = [("--models-dir", args.models_dir), ("--extra-dir", args.extra_dir)]
    unread = [option for option, given in named if given]
    if args.checkpoint is None and unread:
        raise SettingsError(
            f"The tiny family has its own layer files and does not read {' and '.join(unread)}.",
            "Leave it out, or name a checkpoint with --checkpoint.",
        )


def choice_of(args: argparse.Namespace) -> ModelChoice:
    """Returns which checkpoint to load, and how."""
    from ..standalone.models import ModelChoice

    loras = tuple(args.lora)
    return ModelChoice(
        args.checkpoint, args.dtype, args.device, args.offload, loras, args.prediction
    )


def models_of(args: argparse.Namespace, on_download: OnDownload | None) -> Models:
    """Returns what loads checkpoints and weight files."""
    from ..standalone.models import Models

    if args.models_dir or args.extra_dir:
        store_of(args, makes_folder=True)  # Before a checkpoint is loaded.
    return Models(lambda: store_of(args, makes_folder=True, on_progress=on_download))
