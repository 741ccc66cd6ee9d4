"""Latents that no image could be made of: kept as files when a job ends early."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..codec.latent_files import write_latent
from ..errors import CodecError, HostError, LayerDiffuseError
from ..methods import Layer
from ..nets.full_memory import is_memory_error
from ..settings.layer_settings import LayerSettings
from .output import OutputFolder
from .saved import SavedImage, number_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..hosts.diffusers import DiffusersHost
    from .generation import LayerImage


@dataclass(frozen=True, eq=False)
class KeptLatent:
    """A layer that was sampled: which, of which set, its seed, and `4 h w` on the VAE's scale."""

    layer: Layer
    set_index: int
    seed: int
    vae_latent: Tensor


class UndrawnError(LayerDiffuseError):
    """A job ended before all that it had sampled became images.

    Attributes:
        settings: The job's.
        made: The layers that are done.
        latents: Those that are not.
        interrupted: Whether the user ended it.
    """

    def __init__(
        self,
        why: BaseException,
        settings: LayerSettings,
        made: Iterable[LayerImage],
        latents: Iterable[KeptLatent],
    ) -> None:
        self.interrupted = isinstance(why, KeyboardInterrupt)
        ours = why.message if isinstance(why, LayerDiffuseError) else "The memory is full."
        super().__init__("The job was interrupted." if self.interrupted else ours)
        self.settings, self.made, self.latents = settings, list(made), list(latents)

    def after(self, made: Sequence[LayerImage], set_index: int) -> UndrawnError:
        """Returns the same error of a job of several sets, of which only this one was run.

        Args:
            made: The layers of sets before it.
            set_index: The set's number in the whole job.
        """
        self.made = [*made, *(replace(one, set_index=set_index) for one in self.made)]
        self.latents = [replace(one, set_index=set_index) for one in self.latents]
        return self


def leaves_latents(error: BaseException, host: DiffusersHost) -> bool:
    """Whether an error leaves what was sampled as good as it was: no memory, or the user's will."""
    from ..hosts.diffusers import SamplingStopped

    if isinstance(error, (KeyboardInterrupt, CodecError)):
        return True
    ours = isinstance(error, HostError) and not isinstance(error, SamplingStopped)
    return ours or is_memory_error(error, host.memory_errors())


def save_undrawn(
    error: UndrawnError, folder: OutputFolder, number: int | None = None
) -> list[SavedImage]:
    """Returns what was written of the layers that are done; the error's hint names the latents.

    Args:
        error: What ended the job.
        folder: Where.
        number: As in `OutputFolder.save`.

    Raises:
        SettingsError: Nothing can be written there.
    """
    saved = folder.save(error.made, error.settings, number)
    first = number_of(saved[0]) if saved else folder.next_number() if number is None else number
    paths: list[Path] = []
    for one in error.latents:
        name = f"{first + one.set_index:05}-{one.seed}-{one.layer.value}.safetensors"
        path = folder.folder / name
        paths.append(write_latent(path, one.vae_latent, error.settings.method.arch))
    error.hint = _hint(paths)
    return saved


def _hint(paths: Sequence[Path]) -> str:
    if not paths:
        return ""
    more = f" and {len(paths) - 1} more beside it" if len(paths) > 1 else ""
    return (
        f"What was sampled is kept as a latent in {paths[0]}{more}: a VAE of the same family makes "
        "an image of it, and `layerdiffuse decode` makes a foreground transparent with both."
    )
