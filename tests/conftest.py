"""Settings for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# Times say little on shared machines. CI always tries the same examples; people get new ones.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
