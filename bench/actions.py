"""The actions that are measured: nothing, and a little."""

from __future__ import annotations

import asyncio
from typing import Final

WORK_SECONDS: Final = 0.02


async def noop() -> None:
    """Do nothing; what remains is the product."""


async def pause() -> None:
    """Hold a slot for 20 ms, and nothing else."""
    await asyncio.sleep(WORK_SECONDS)
