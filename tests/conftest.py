"""Settings for every test."""

from __future__ import annotations

import os

import torch
from hypothesis import settings

torch.set_num_threads(1)  # threads only slow small networks, tenfold on a busy machine

# Times say little on shared machines. CI always tries the same examples; people get new ones.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
