"""The UNet's patcher."""

from __future__ import annotations

from typing import Any

from backend.patcher.base import ModelPatcher


class UnetPatcher(ModelPatcher):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.extra_model_patchers_during_sampling: list[ModelPatcher] = []
        self.extra_concat_condition = None

    def clone(self) -> UnetPatcher:
        twin = super().clone()
        twin.extra_model_patchers_during_sampling = list(self.extra_model_patchers_during_sampling)
        twin.extra_concat_condition = self.extra_concat_condition
        return twin

    def add_extra_model_patcher_during_sampling(self, model_patcher: ModelPatcher) -> None:
        self.extra_model_patchers_during_sampling.append(model_patcher)
