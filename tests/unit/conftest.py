"""How long property tests search: no deadline on a shared machine, and the same examples every time in CI."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("interlock", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("interlock")
