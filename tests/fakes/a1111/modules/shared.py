"""What the user has chosen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

opts = SimpleNamespace(upcast_attn=False, batch_cond_uncond=True)
loaded_hypernetworks: list[Any] = []
