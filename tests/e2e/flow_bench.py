"""A method at work on small images, and what must hold of all that it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from client import ApiError, Client, Result
from flow_jobs import CHECKPOINTS
from layers import assert_decoded, check_layers, difference, request
from pictures import glass_ball
from webuis import Webui

from lib_layerdiffuse.methods import Arch, Layer, LayerMethod
from lib_layerdiffuse.outputs import preview

SIDE = 64
SMALL = {"width": SIDE, "height": SIDE, "steps": 1}
_SHARED_ATTENTIONS = 32


class Bench:
    """Runs small jobs of one method.

    Attributes:
        STRENGTH: The denoising strength of img2img.
        method: The method.
        webui: The WebUI.
        last: Folder of the last job's record.
    """

    STRENGTH = 0.6

    def __init__(
        self,
        client: Client,
        method: LayerMethod,
        folder: Path,
        plain_weights: str,
        webui: Webui,
    ) -> None:
        """Takes a server with the method's checkpoint.

        Args:
            client: Of the server.
            method: The method.
            folder: Where records go.
            plain_weights: The probe's checksum of the UNet's weights without any method.
            webui: The WebUI.
        """
        self.client, self.method, self.webui = client, method, webui
        self.last = folder
        self._folder, self._plain_weights, self._made = folder, plain_weights, 0

    @property
    def checkpoint(self) -> str:
        """The checkpoint of the method's family."""
        return CHECKPOINTS[self.method.arch]

    def new_folder(self) -> Path:
        """Returns a folder that is empty."""
        self._made += 1
        folder = self._folder / str(self._made)
        folder.mkdir(parents=True)
        return folder

    def txt2img(self, **options: Any) -> Result:
        """Runs the method from text; `settings` are its own."""
        return self.client.txt2img(**SMALL | self._job(options))

    def img2img(self, pictures: list[np.ndarray] | None = None, **options: Any) -> Result:
        """Runs the method on init images, by default the ball."""
        pictures = [glass_ball(SIDE)] if pictures is None else pictures
        job = {**SMALL, "steps": 2, "denoising_strength": self.STRENGTH, "resize_mode": 0}
        return self.client.img2img(pictures, **job | self._job(options))

    def _job(self, options: dict[str, Any]) -> dict[str, Any]:
        scripts = request(self.method.id, **options.pop("settings", {}))
        self.last = self.new_folder()
        return options | {
            "scripts": scripts | options.pop("scripts", {}),
            "record": self.last,
            "checksums": False,
        }

    @cached_property
    def base(self) -> Result:
        """What the method makes from text, with nothing else."""
        return _must_work(self.txt2img)

    @cached_property
    def begun(self) -> Result:
        """What the method makes of the ball, with nothing else."""
        return _must_work(self.img2img)

    def check(self, made: Result, sets: int = 1, side: int = SIDE) -> None:
        """Checks whole sets, each foreground decoded from its own latent, and that UNet's patch."""
        self.check_layers(made, sets, side)
        self.check_decoded(made)

    def check_decoded(self, made: Result) -> None:
        """Checks that each foreground is decoded from its own latent."""
        if self.method.fg_frame is not None:
            for row in range(self.method.fg_frame, len(made.images), self.method.frames):
                assert_decoded(made.images[row], made, row, self.method.arch)

    def check_layers(self, made: Result, sets: int = 1, side: int = SIDE) -> None:
        """Checks the images' number, size and kind, and that the method acted."""
        check_layers(made, self.method, sets=sets, width=side, height=side)
        self.check_acted(made)

    def check_acted(self, made: Result) -> None:
        """Checks that the UNet was called with the method on it, and is without it now."""
        merges = self.webui.has_patcher
        assert made.run["passes"]
        for one in made.run["passes"]:
            if self.method.arch is Arch.SD15:
                assert one["overridden"] == _SHARED_ATTENTIONS
            else:
                assert (one["weights"] != self._plain_weights) == merges
                assert merges or one["overridden"]
            concat = self.method.concat_channels if merges else 0  # Else put in further in.
            assert one["channels"] == 4 + concat
        assert made.run["overridden"] == []

    def check_differs(self, made: Result, reason: str, plain: Result | None = None) -> None:
        """Checks that a job has other latents than a plain one, by default from the same text."""
        assert difference(made, plain or self.base) > 0.001, reason

    def check_matrix(self, images: list[np.ndarray]) -> None:
        """Checks a prompt matrix of two: its grid, each set in a row, and the layers.

        A WebUI whose API answers no extra images gives the layers in the rows alone.
        """
        frames, base = self.method.frames, self.base.images
        if frames == 1 or self.webui.answers_extra_images:
            self.check_repeats(images[-2 * frames :])
            return
        _, *rows = images
        tiles = [tile for row in rows for tile in np.split(row, frames, axis=1)]
        if tiles[0].shape[2] == 3:
            base = [preview(image) if image.shape[2] == 4 else image for image in base]
        else:
            base = [np.dstack([i, np.full_like(i[..., :1], 255)])[..., :4] for i in base]
        self.check_repeats(tiles, base)

    def check_repeats(
        self, images: list[np.ndarray], first: list[np.ndarray] | None = None
    ) -> None:
        """Checks for two different sets, the first of which is that of the same text alone."""
        frames, first = self.method.frames, first or self.base.images
        assert len(images) == 2 * frames
        for one, other, wanted in zip(images, images[frames:], first, strict=False):
            np.testing.assert_array_equal(one, wanted)
            assert other.shape == wanted.shape
            assert (other != wanted).any()

    def check_edited(self, made: Result, before: Result, levels: int = 0) -> None:
        """Checks that each image was edited, and that alpha stayed, to so many levels."""
        for image, was in zip(made.images, before.images, strict=True):
            assert image.shape == was.shape
            assert (image[..., :3] != was[..., :3]).any()
            apart = np.abs(image[..., 3:].astype(int) - was[..., 3:])
            assert apart.max(initial=0) <= levels

    def check_kept(
        self, made: Result, where: np.ndarray, picture: np.ndarray | None = None
    ) -> None:
        """Checks that a part of the init image came back in foregrounds, and what did not."""
        picture = glass_ball(SIDE) if picture is None else picture
        for layer, image in zip(self.method.outputs, made.images, strict=True):
            if layer is Layer.FG:
                np.testing.assert_array_equal(image[where], picture[where])
            assert (image[~where][..., :3] != picture[~where][..., :3]).any()

    def opaque(self, made: Result, before: Result) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the images without transparency of two results, in pairs."""
        pairs = zip(made.images, before.images, strict=True)
        return ((one, other) for one, other in pairs if one.shape[2] == 3)


Run = Callable[[Bench], None]


def entering(runs: dict[str, Run]) -> Callable[[str], Callable[[Run], Run]]:
    """Returns a decorator that enters a run under its row's name."""

    def flow(name: str) -> Callable[[Run], Run]:
        assert name not in runs, name

        def enter(run: Run) -> Run:
            return runs.setdefault(name, run)

        return enter

    return flow


def _must_work(run: Callable[[], Result]) -> Result:
    """Returns what a job makes that is no refusal of the flow under test."""
    try:
        return run()
    except ApiError as error:
        raise AssertionError("the method alone was refused") from error


def held(made: Result, where: np.ndarray) -> bool:
    """Whether all latents of a job are what they began with in these cells."""
    apart = np.abs(made.latents - made.init_latents)[..., where]
    return bool(apart.max() < 1e-4)


def other_family(bench: Bench) -> str:
    """Returns the checkpoint of the family that is not the method's."""
    return next(name for arch, name in CHECKPOINTS.items() if arch is not bench.method.arch)
