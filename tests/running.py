"""What a worker runs actions with, on its own: for tests of what becomes of an action's result."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from worker.execute import Runners
from worker.runners.address import Guard
from worker.runners.function import Functions
from worker.runners.http import http_client
from worker.runners.warm import WarmProcesses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def runners(*modules: str) -> AsyncIterator[Runners]:
    """Run functions of these modules, in one thread, and commands with an empty environment."""
    guard = Guard()
    with ThreadPoolExecutor(1) as threads:
        async with http_client(guard) as client:
            yield Runners(
                functions=Functions(modules),
                threads=threads,
                warm=WarmProcesses([], {}),
                client=client,
                guard=guard,
                inherited={},
            )
