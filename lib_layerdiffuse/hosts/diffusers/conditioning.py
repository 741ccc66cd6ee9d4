"""What the UNet reads at each step of a run: prompts that change, and prompts put together.

While conditions are on a UNet, a hook before each of its calls exchanges the prompts for those of
the step. Where `AND` composes several, it repeats the rows for each of them, and a hook after the
call puts the answers together: negative + Σ weight · (prompt - negative), as in Liu et al.,
arXiv:2206.01714.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...methods import Arch
from .prompt_changes import at_each_step, check_prompt, composed
from .prompt_encoding import embeddings

_Embeddings = dict[str, Tensor]
_Calls = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Conditions:
    """A run's prompts for the UNet.

    Attributes:
        steps: Each step's: rows of the composed prompts, all rows of one before those of the next.
        weights: Of the composed prompts, `p b`.
    """

    steps: Sequence[_Embeddings]
    weights: Tensor

    @property
    def first(self) -> _Embeddings:
        """A pipeline's arguments: the first prompts of the first step."""
        rows = self.weights.shape[1]
        return {name: value[:rows] for name, value in self.steps[0].items()}

    @property
    def composes(self) -> bool:
        """Whether more than one prompt, or one of another weight than 1, is put together."""
        return len(self.weights) > 1 or bool((self.weights != 1).any())

    @contextmanager
    def on(self, unet: nn.Module, step_of: Callable[[int], int]) -> Iterator[None]:
        """Has the UNet read them until the block ends.

        Args:
            unet: Of a pipeline that was given `first`.
            step_of: Returns the step, from 0, of a UNet call, counted from 0.
        """
        calls: list[int] = []

        def before(_unet: nn.Module, args: Any, kwargs: dict[str, Any]) -> _Calls:
            values = self.steps[step_of(len(calls))]
            calls.append(len(args[0]))
            return self._composing(args, kwargs, values)

        def after(_unet: nn.Module, _args: Any, output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (self._put_together(output[0], calls[-1]), *output[1:])

        with ExitStack() as undo:
            if self.composes or any(values is not self.steps[0] for values in self.steps):
                # First, so that a method that is attached sees the batch that the UNet gets.
                hook = unet.register_forward_pre_hook(before, prepend=True, with_kwargs=True)
                undo.callback(hook.remove)
            if self.composes:
                undo.callback(unet.register_forward_hook(after).remove)
            yield

    def _composing(self, args: Any, kwargs: dict[str, Any], values: _Embeddings) -> _Calls:
        """Returns a call's arguments with the step's prompts; the negative ones come first."""
        sample, *rest = args
        rows = self.weights.shape[1]
        parts = len(self.weights)
        with_negative = self.composes or len(sample) > rows
        if self.composes:
            sample = sample[-rows:].repeat(1 + parts, 1, 1, 1)
        tokens = kwargs["encoder_hidden_states"]
        changed: dict[str, Any] = {}
        changed["encoder_hidden_states"] = _stacked(values, "", with_negative).to(tokens)
        added = kwargs.get("added_cond_kwargs")
        if added and "text_embeds" in added:
            ids = added["time_ids"]
            ids = ids[-rows:].repeat(1 + parts, 1) if self.composes else ids
            pooled = _stacked(values, "pooled_", with_negative).to(added["text_embeds"])
            changed["added_cond_kwargs"] = {**added, "text_embeds": pooled, "time_ids": ids}
        return (sample, *rest), kwargs | changed

    def _put_together(self, answers: Tensor, asked: int) -> Tensor:
        """Returns the answer to the rows that the pipeline asked for."""
        rows = self.weights.shape[1]
        negative, *prompts = answers.float().split(rows)
        weights = self.weights.to(negative)[..., None, None, None]
        found = negative + (weights * (torch.stack(prompts) - negative)).sum(0)
        guided = asked > rows
        return (torch.cat([negative, found]) if guided else found).to(answers.dtype)


def _stacked(values: _Embeddings, kind: str, with_negative: bool) -> Tensor:
    names = (f"negative_{kind}prompt_embeds", f"{kind}prompt_embeds")
    return torch.cat([values[name] for name in names[not with_negative :]])


def conditions(
    pipeline: Any, arch: Arch, prompts: Sequence[str], negatives: Sequence[str], steps: int
) -> Conditions:
    """Returns what the UNet reads for these rows at each of the steps.

    Raises:
        SettingsError: A prompt has syntax that is not done here.
    """
    for texts, composes in ((prompts, True), (negatives, False)):
        for text in texts:
            check_prompt(text, composes=composes)
    rows = [composed(prompt) for prompt in prompts]
    count = max(map(len, rows))
    # A row that has fewer prompts than another repeats one that counts for nothing.
    rows = [row + [(row[0][0], 0.0)] * (count - len(row)) for row in rows]
    texts = [row[part][0] for part in range(count) for row in rows]
    changing = zip(*(at_each_step(text, steps) for text in [*texts, *negatives]), strict=True)
    known: dict[tuple[str, ...], _Embeddings] = {}
    for said in (moments := list(changing)):
        if said not in known:
            known[said] = embeddings(pipeline, arch, said[: len(texts)], said[len(texts) :])
    weights = torch.tensor([[row[part][1] for row in rows] for part in range(count)])
    return Conditions([known[said] for said in moments], weights)
