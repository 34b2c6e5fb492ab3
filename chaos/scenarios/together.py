"""Faults of several places at once, on many small batches: whatever is lost, each of them ends, and once."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from chaos.scenarios.broker import cut_connections
from chaos.scenarios.database import terminate_backends
from chaos.scenarios.messages import meddle_with_completions
from chaos.scenarios.processes import kill_random
from chaos.trial import Scenario

if TYPE_CHECKING:
    from chaos.trial import Trial

EVERY: Final = 5.0
"""Seconds between two cuts of each kind: with those of a kill, a daemon has a moment to itself now and then."""
FAULTS: Final = (
    kill_random,
    meddle_with_completions,
    partial(terminate_backends, every=EVERY),
    partial(cut_connections, every=EVERY),
)


async def all_at_once(trial: Trial) -> None:
    """Kill executors and workers, drop and repeat completions, cut connections to the broker and the database."""
    async with asyncio.TaskGroup() as tasks:
        for fault in FAULTS:
            tasks.create_task(fault(trial))


SCENARIOS: Final = (
    Scenario(
        name="batches",
        sentence="processes are killed, completions lost and repeated, connections cut, all at once under batches",
        fault=all_at_once,
        batches=True,
        # Whoever heals may itself be cut off from either server on the way, once each.
        hindered=2 * EVERY,
        longer=2,
    ),
)
