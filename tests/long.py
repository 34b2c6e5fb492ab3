"""Whether the long forms of tests are asked for, by `./dev test --long`."""

from __future__ import annotations

import os
from typing import Final

# Taken out of the environment: daemons refuse to start with a setting that they do not know.
LONG: Final = os.environ.pop("INTERLOCK_LONG", "") == "1"
