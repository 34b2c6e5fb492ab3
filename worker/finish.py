"""Writes the ends of attempts and log lines, everything that is there in one statement.

Law 2. Each move has one owner and one guarded statement. An attempt that lost its fence moves nothing.
A flush that fails on data is split, down to the one result that cannot be stored: that execution ends `failed`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from interlock.adapters.faults import reached
from interlock.adapters.logs import get_logger
from interlock.adapters.postgres import BadData, single_statements, transaction
from interlock.contract.errors import Transient
from interlock.contract.status import TERMINAL, Status
from worker import store
from worker.outcome import failed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from asyncpg import Pool

    from interlock.adapters.outbox import Relay
    from interlock.adapters.telemetry import Metrics
    from worker.holdings import Holdings

FLUSH: Final = 500
RETRY_SECONDS: Final = 0.5
MOST_LINES: Final = 50_000


class Finisher:
    """Takes the ends of attempts; holds each until it is committed, whatever the database does meanwhile."""

    def __init__(
        self, worker: UUID, actor: str, *, pool: Pool[Any], relay: Relay, holdings: Holdings, metrics: Metrics
    ) -> None:
        self._worker = worker
        self._actor = actor
        self._pool = pool
        self._relay = relay
        self._holdings = holdings
        self._metrics = metrics
        self._ends: deque[store.Finish] = deque()
        self._wake = asyncio.Event()
        self._log = get_logger("finish")

    def put(self, end: store.Finish) -> None:
        """Hand over the end of one attempt."""
        self._ends.append(end)
        self._wake.set()

    async def run(self) -> None:
        """Flush what is there, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ends:
                batch = [self._ends.popleft() for _ in range(min(FLUSH, len(self._ends)))]
                await self._persistently(batch)

    async def _persistently(self, batch: Sequence[store.Finish]) -> None:
        while True:
            try:
                return await self._flush(batch)
            except Transient as error:
                # A commit that may or may not have happened is repeated: what it moved is not moved again.
                self._log.warning("finishing waits for the database", executions=len(batch), reason=str(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _flush(self, batch: Sequence[store.Finish]) -> None:
        await reached("finish.taken")
        try:
            # One statement moves and a second keeps what came late, which a repeat finds late again.
            async with single_statements(self._pool) as tx:
                moved, messages = await store.finish(tx, self._worker, batch, self._actor)
        except BadData as error:
            if len(batch) > 1:
                half = len(batch) // 2
                await self._flush(batch[:half])
                await self._flush(batch[half:])
            else:
                self._log.warning("a result cannot be stored", execution_id=str(batch[0].id), reason=str(error))
                await self._flush([_unstorable(batch[0], error)])
            return
        await reached("finish.committed")
        self._relay.offer(messages)
        self._metrics.flush_size.labels("finish").observe(len(batch))
        self._log.info("finished", executions=len(moved))
        ended: Counter[tuple[str, Status]] = Counter()
        for end in batch:
            self._holdings.remove(end.id, end.attempt)
            stands = moved.get(end.id)
            if stands in TERMINAL:
                ended[end.action, stands] += 1
            elif stands is None:
                self._log.info("late result, not applied", execution_id=str(end.id), attempt=end.attempt)
        for labels, count in ended.items():
            self._metrics.executions.labels(*labels).inc(count)
        await reached("finish.offered")


def _unstorable(end: store.Finish, error: BadData) -> store.Finish:
    outcome = failed("ResultNotStorable", f"the result cannot be stored: {error}")
    failure = outcome.failure
    assert failure is not None  # noqa: S101 - failed() always has one
    return replace(
        end,
        target=Status.FAILED,
        outcome=Status.FAILED,
        result=None,
        error=orjson.dumps({"class": failure.error_class, "message": failure.message}).decode(),
        error_class=failure.error_class,
        error_text=failure.message,
        fingerprint=failure.fingerprint,
    )


class LogWriter:
    """Writes log lines in batches, without waiting for the disk: losing some with a crash is harmless."""

    def __init__(self, pool: Pool[Any]) -> None:
        self._pool = pool
        self._lines: deque[store.LogLine] = deque(maxlen=MOST_LINES)
        self._wake = asyncio.Event()
        self._log = get_logger("log_writer")

    def put(self, line: store.LogLine) -> None:
        """Hand over one line; while the database is away the newest MOST_LINES are kept."""
        self._lines.append(line)
        self._wake.set()

    async def run(self) -> None:
        """Write what is there, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write everything that is there now."""
        while self._lines:
            batch = [self._lines.popleft() for _ in range(min(FLUSH, len(self._lines)))]
            try:
                async with transaction(self._pool) as tx:
                    await tx.execute("SET LOCAL synchronous_commit = off")
                    await store.write_log(tx, batch)
            except Transient as error:
                self._log.warning("log lines wait for the database", lines=len(batch), reason=str(error))
                self._lines.extendleft(reversed(batch))
                await asyncio.sleep(RETRY_SECONDS)
            except asyncio.CancelledError:
                self._lines.extendleft(reversed(batch))  # for the flush at the end of the drain
                raise
            except BadData as error:
                self._log.warning("log lines dropped", lines=len(batch), reason=str(error))
