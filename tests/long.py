"""Whether the long forms of tests are asked for, by `./dev test --long`."""

from __future__ import annotations

import os
from typing import Final

LONG: Final = os.environ.get("LONG_TESTS") == "1"
"""Not one of INTERLOCK's settings: daemons and the command line refuse those that they do not know."""
