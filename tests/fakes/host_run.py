"""What the tests of the contract do with an adapter: a small checkpoint, as its host uses it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import torch
from tiny_weights import method_file
from torch import Tensor, nn

from lib_layerdiffuse.host import Injection
from lib_layerdiffuse.methods import LayerMethod, PatchKind
from lib_layerdiffuse.nets.attention_sharing import AttentionSharing
from lib_layerdiffuse.weights.patches import CONV_IN, Diff, LoRA, WeightPatch, read_patches

HIGH, LOW = 0.1, 0.9
"""Parts of the schedule that are done: with much noise, and with little."""
BLOCK = "diffusion_model.input_blocks.4.1.transformer_blocks.0"
"""One that every small UNet has."""
Deltas = Mapping[str, Tensor]
"""What is added to parameters, by ldm's names; the first convolution's may be wider."""


class HostRun(ABC):
    """A checkpoint in a host that a stand-in plays, and the adapter's object for it.

    Attributes:
        name: The host's; None in tests that change a sharing module's type.
        host: The adapter's, once a checkpoint is open.
        attachment: Of the last injection.
        kinds: Parameters of the UNet, one for each kind of layer.
        memory_error: What the host raises where memory is full.
    """

    name: str | None = None
    host: Any
    attachment: Any = None
    kinds: tuple[str, ...]
    memory_error: type[BaseException] = torch.OutOfMemoryError

    @abstractmethod
    def open(self, method: LayerMethod, lora: Deltas | None = None, **more: Any) -> HostRun:
        """Loads a checkpoint of the method's family, with a user's LoRA on it.

        Args:
            method: The method.
            lora: The LoRA.
            more: As in `host_of`.
        """

    @abstractmethod
    def put_lora(self, lora: Deltas | None) -> None:
        """Does what the host does when the user's LoRAs change between jobs."""

    @abstractmethod
    def load(self, given: Injection) -> HostRun:
        """Attaches an injection and does what the host does before it samples."""

    @abstractmethod
    def end(self) -> None:
        """Detaches it and does what the host does before its next run without a method."""

    @abstractmethod
    def denoise(self, x: Tensor, done: float, prompts: list[str], negatives: list[str]) -> Tensor:
        """Returns one UNet call's rows: those of the prompts, then those of the negative ones.

        Args:
            x: `b 4 h w`.
            done: The part of the schedule before this call.
            prompts: One for each row.
            negatives: Likewise; empty where the host leaves them out.
        """

    @abstractmethod
    def defined(self, given: Injection, file: Mapping[str, Tensor], lora: Deltas) -> HostRun:
        """Returns a run whose UNet computes what the method is defined to, at `HIGH`.

        It is that of a checkpoint in which patches and LoRAs are merged, or whose attention is
        computed frame by frame and set by set.
        """

    @property
    @abstractmethod
    def net(self) -> nn.Module:
        """The UNet's module, which the host's clones share."""

    @abstractmethod
    def layer(self, name: str) -> Any:
        """Returns one of its modules by ldm's name with `diffusion_model.`"""

    @abstractmethod
    def last_layer(self) -> nn.Module:
        """Returns the module that the UNet calls last."""

    @abstractmethod
    def snapshot(self) -> Any:
        """Returns all that a method could leave behind."""

    @abstractmethod
    def assert_as_before(self, before: Any) -> None:
        """Checks the UNet after `end`, bit for bit."""

    @abstractmethod
    def break_attaching(self, patch: Any, error: type[BaseException]) -> None:
        """Makes the last thing fail that attaching does."""

    @abstractmethod
    def break_merging(self, patch: Any, error: type[BaseException]) -> None:
        """Makes weight patches fail once two are in force, until `patch` is undone."""

    @abstractmethod
    def load_without(self, given: Injection, patch: Any, key: str | None) -> None:
        """Loads an injection whose patches the host takes and leaves out: all, or a parameter's."""

    @abstractmethod
    def vae_makes(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the VAE's mean and deviation, VAE's scale, of `b 3 H W` in [0, 1]."""

    @abstractmethod
    def break_vae(self, patch: Any, error: type[BaseException]) -> None:
        """Makes the VAE's encoder fail."""

    @abstractmethod
    def free(self, patch: Any, size: int) -> None:
        """Makes so many bytes free on the device, by what the host asks."""

    @abstractmethod
    def host_of(self, family: str, **more: Any) -> Any:
        """Returns the adapter's object for a checkpoint.

        Args:
            family: Its, as `Arch` calls it, or another.
            more: What the adapter takes beside the checkpoint, and `channels` of its UNet's input.
        """

    def parameters(self) -> dict[str, Tensor]:
        """Returns the UNet's parameters by its own names."""
        return dict(self.net.named_parameters())

    def tensors(self, method: LayerMethod, seed: int = 0) -> Mapping[str, Tensor]:
        """Returns the tensors of a method's file that fits the checkpoint."""
        return _file(method, seed)

    def injection(self, method: LayerMethod, **more: Any) -> Injection:
        """Returns a method's injection; `more` are its fields, and `seed` the file's."""
        if method.patch is PatchKind.ATTENTION_SHARING and self.name is not None:
            # Made once for each host, which may leave its marks on it: it takes longest of all.
            key = self.name, method.id, more.get("strength"), more.get("seed")
            if key not in _made:
                _made[key] = injection(method, file=self.tensors, **more).sharing
            more = {"sharing": _made[key]} | more
        return injection(method, file=self.tensors, **more)

    def attach(self, method: LayerMethod, **more: Any) -> HostRun:
        """Opens a checkpoint and loads a method's injection."""
        self.open(method)
        return self.load(self.injection(method, **more))

    def call(
        self, done: float, frames: int = 1, sets: int = 1, *, negatives: bool = True, part: Any = ()
    ) -> Tensor:
        """Returns a UNet call's rows of whole sets, see `denoise`.

        Args:
            done: The part of the schedule before it.
            frames: Rows of a set.
            sets: Sets of the batch.
            negatives: Whether their rows are in the call.
            part: Rows of the batch, all where it is empty.
        """
        rows = range(sets * frames)[part or slice(None)]
        prompts, without = ([f"{name} {i}" for i in rows] for name in ("prompt", "negative"))
        x = noise(sets * frames, 4, 8, 8)[rows.start : rows.stop]
        return self.denoise(x, done, prompts, without if negatives else [])


def noise(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


_file = cache(method_file)
_made: dict[Any, AttentionSharing | None] = {}


def injection(
    method: LayerMethod,
    *,
    file: Any = _file,
    strength: float = 1.0,
    stop_at: float = 1.0,
    seed: int = 0,
    **more: Any,
) -> Injection:
    """Returns a method's injection.

    Args:
        method: The method.
        file: Returns the tensors of a method's file, by a seed.
        strength: As in `Injection`, likewise `stop_at`.
        seed: The file's.
        more: Further fields.
    """
    made: dict[str, Any] = {}
    if method.patch is PatchKind.WEIGHTS and "patches" not in more:
        made["patches"] = read_patches(file(method, seed), method)
    if method.patch is PatchKind.ATTENTION_SHARING and "sharing" not in more:
        made["sharing"] = AttentionSharing.from_state_dict(file(method, seed), strength)
    if method.concat_channels:
        made["concat"] = noise(1, method.concat_channels, 8, 8, seed=9)
    if method.uses_control:
        made["control"] = noise(1, 3, 64, 64, seed=9).clamp(-1, 1)
    return Injection(method, stop_at, f"{method.id} {seed}", strength, **made | more)


def deltas_of(given: Injection, lora: Deltas) -> dict[str, Tensor]:
    """Returns what an injection's patches and a user's LoRA add to the UNet's parameters."""
    found = dict(lora)
    for key, patch in (given.patches or {}).items():
        delta = given.strength * delta_of(patch)
        own = found.get(key)
        if own is not None:
            delta[:, : own.shape[1]] += own
        found[key] = delta
    return found


def delta_of(patch: WeightPatch) -> Tensor:
    """Returns what a patch adds at strength 1, a tensor of its own."""
    return patch.up @ patch.down if isinstance(patch, LoRA) else patch.delta.clone()


def merged(weight: Tensor, delta: Tensor) -> Tensor:
    """Returns a weight, with as many input channels as its delta, and the delta added."""
    wide = delta.clone()
    narrow = wide[:, : weight.shape[1]] if weight.ndim > 1 else wide
    narrow += weight
    return wide


@torch.no_grad()
def merge_into(model: nn.Module, deltas: Deltas, concat: Tensor | None) -> None:
    """Gives a model, with ldm's names, the weights of a checkpoint in which deltas are merged."""
    for key, delta in deltas.items():
        path, _, name = key.rpartition(".")
        layer = model.get_submodule(path)
        layer._parameters[name] = nn.Parameter(merged(layer._parameters[name], delta), False)
    if concat is not None:
        beside(model.get_submodule(CONV_IN.removesuffix(".weight")), concat)


def beside(conv_in: nn.Module, concat: Tensor) -> None:
    """Makes a widened convolution take latents beside each row of its input."""
    conv_in.register_forward_pre_hook(
        lambda _, given: torch.cat([given[0], concat.expand(len(given[0]), -1, -1, -1)], 1)
    )


def averages(image: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what the WebUIs' stand-in for a VAE makes of an image: means of cells of 8 by 8."""
    rgb = nn.functional.avg_pool2d(2 * image - 1, 8)
    mean = torch.cat([rgb, rgb.mean(1, keepdim=True)], dim=1)
    return mean, 0.01 * (1 + mean.abs())


def lora(run: HostRun) -> dict[str, Tensor]:
    """Returns what a user's LoRA adds to the UNet of an open checkpoint."""
    names = [f"{BLOCK}.attn{n}.to_{name}.weight" for n in (1, 2) for name in "qkv"]
    return _noises(run, [*names, f"{BLOCK}.attn1.to_out.0.weight", CONV_IN], seed=100)


def diffs(run: HostRun) -> dict[str, WeightPatch]:
    """Returns differences for parameters of every kind."""
    return {key: Diff(delta) for key, delta in _noises(run, run.kinds).items()}


def _noises(run: HostRun, keys: Iterable[str], seed: int = 0) -> dict[str, Tensor]:
    made = {}
    for number, key in enumerate(keys):
        path, _, name = key.rpartition(".")
        shape = getattr(run.layer(path), name).shape
        made[key] = noise(*shape, seed=seed + number) / 8
    return made


def near(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    """Checks that two results are one, but for rounding."""
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * b.abs().max().item())


def differs(a: Tensor, b: Tensor) -> None:
    """Checks that two results are not one."""
    assert (a - b).abs().max() > 1e-4 * b.abs().max()


def same(a: Any, b: Any) -> bool:
    """Says whether two snapshots have the same in them, tensors by their numbers."""
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(map(same, a.values(), b.values()))
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)
