"""Following a batch: looks until it has ended, and how each look is shown."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.live import Live

from interlock.cli import batch_view, output
from interlock.client.polls import Pace
from interlock.contract.status import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from uuid import UUID

    from interlock.client import Client
    from interlock.client.batch_records import BatchState, FailureGroup

    Show = Callable[[BatchState, Sequence[FailureGroup]], None]

FAILURES_SECONDS: Final = 3.0
"""Failures are grouped at most so often while a batch goes on: that reads its partitions, all else one row."""


async def follow(client: Client, identity: UUID, show: Show) -> None:
    """Look at a batch until it has ended, and show every look. Raises UnknownId and NotABatch."""
    pace, before, failed, grouped_at = Pace(), -1, 0, float("-inf")
    failures: Sequence[FailureGroup] = ()
    while True:
        pace.begin()
        state = await client.batches.get(identity)
        now = state.failed + state.timed_out + state.abandoned
        if now != failed and monotonic() - grouped_at >= FAILURES_SECONDS:
            failures = await client.batches.failures(identity)
            failed, grouped_at = now, monotonic()
        show(state, failures)
        if state.status in TERMINAL:
            return
        await pace.rest(news=state.processed != before)
        before = state.processed


@contextmanager
def shown(*, lines: bool = False) -> Iterator[Show]:
    """Give a function that draws a batch again and again, on a terminal; elsewhere a line per change, or nothing."""
    if not sys.stderr.isatty():
        told: list[str] = []
        yield (lambda state, _: _line(state, told)) if lines else (lambda _state, _failures: None)
        return
    with Live(console=Console(stderr=True, highlight=False), refresh_per_second=8, transient=True) as screen:
        yield lambda state, failures: screen.update(batch_view.live(state, failures))


def _line(state: BatchState, told: list[str]) -> None:
    """Write a line if the counts or the status have changed."""
    key = f"{state.status} {state.epoch} {state.total} {batch_view.counted(state)} {state.stalled_reason}"
    if told != [key] and state.status not in TERMINAL:
        output.line(batch_view.summary(state))
    told[:] = [key]
