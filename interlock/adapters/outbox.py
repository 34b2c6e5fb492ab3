"""Publishes what was committed: outbox rows of one role, with confirms, then deletes them.

Law 4. Nothing is published that is not committed; nothing committed is left unpublished.

The fast path publishes what a commit just returned; the sweep publishes what nobody confirmed. Only confirmed ids are
deleted, which nobody waits for, so they are gathered for a moment. A row that the broker cannot route backs off and
stays, for `doctor` to find.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from interlock.adapters.amqp import Message
from interlock.adapters.faults import reached
from interlock.adapters.logs import get_logger
from interlock.adapters.postgres import listen, single_statements, transaction
from interlock.contract.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from asyncpg import Pool, Record

    from interlock.adapters.amqp import Session
    from interlock.adapters.telemetry import Metrics

# Should its process die, the messages wait until the mark ends, so it is short. A batch that takes longer is published
# twice, which is harmless.
_CLAIM = """
UPDATE outbox o SET claimed_until = now() + interval '2 seconds', tries = tries + 1
FROM (SELECT id FROM outbox WHERE role = $1 AND (claimed_until IS NULL OR claimed_until < now())
      ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) due
WHERE o.id BETWEEN due.id AND due.id RETURNING o.id, o.exchange, o.routing_key, o.events, o.body
"""
# Losing this write publishes twice, which is harmless: no need to wait for the disk. One statement, so one round trip.
_DELETE = """
WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
DELETE FROM outbox USING quick WHERE id = ANY($1)
"""
# 2, 4, 8 … 64 seconds until the next try of what could not be routed.
_BACK_OFF = """
UPDATE outbox SET claimed_until = now() + least(64, 2 ^ least(tries, 6)) * interval '1 second', error = u.error
FROM unnest($1::bigint[], $2::text[]) u(id, error) WHERE outbox.id BETWEEN u.id AND u.id
"""
_PENDING = "SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0) FROM outbox WHERE role = $1"
LEFT_TO_RELAYS = "interlock_outbox"
# A confirm takes some milliseconds, which what is offered next should not wait for. More would make many small batches
# of what one can carry.
PUBLISHERS = 3
# How long confirmed ids are gathered into one delete: short beside the second for which their rows are marked.
_GATHER_SECONDS = 0.1
_SWEEP_ROWS = 100
_FAST_PATH_ROWS = 1000


class Relay:
    """The publisher of one role. `offer` never blocks; what does not fit is left to the sweep."""

    def __init__(self, pool: Pool[Any], session: Session, role: str, metrics: Metrics, sweep_seconds: float) -> None:
        self._pool = pool
        self._session = session
        self._role = role
        self._metrics = metrics
        self._sweep_seconds = sweep_seconds
        self._offered: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._sweep_now = asyncio.Event()
        self._confirmed: list[int] = []
        self._settled = asyncio.Event()
        self._log = get_logger("relay").bind(role=role)

    def offer(self, rows: Iterable[Record] | None) -> None:
        """Hand over the messages that a committed statement returned (its `message[]`, possibly null)."""
        if rows and self._session.connected and len(self._offered) < _FAST_PATH_ROWS:
            self._offered.extend(message(row) for row in rows)
            self._wake.set()

    def nudge(self) -> None:
        """Sweep at once: somebody said that rows of this role wait."""
        self._sweep_now.set()

    async def listen(self) -> None:
        """Sweep at once when somebody has committed what others publish. Without this, the sweep finds it."""
        while True:
            try:
                await listen(self._pool, LEFT_TO_RELAYS, self.nudge)
            except Transient as error:
                self._log.debug("hears of nothing, the sweep finds what others commit", reason=str(error))
            await asyncio.sleep(self._sweep_seconds)

    async def publish_offered(self) -> None:
        """Fast path: publish everything that was offered since anybody last looked, in one go. PUBLISHERS run this."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch = list(self._offered)
            self._offered.clear()
            try:
                await self._publish(batch)
            except asyncio.CancelledError:
                self._offered.extendleft(reversed(batch))  # for the flush at the end of the drain
                raise

    async def sweep(self) -> None:
        """Publish rows that are due again, every sweep period and at each nudge."""
        while True:
            try:
                async with asyncio.timeout(self._sweep_seconds):
                    await self._sweep_now.wait()
            except TimeoutError:
                pass  # The period is over: the usual reason to sweep.
            self._sweep_now.clear()
            if self._session.connected:
                try:
                    await self._sweep_once()
                except Transient as error:
                    self._log.warning("sweep postponed", reason=str(error))

    async def clear(self) -> None:
        """Delete what was confirmed, all of a moment at once."""
        while True:
            await self._settled.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            await self._clear_once()

    async def flush(self) -> None:
        """Publish what is left; for the end of a drain. What cannot be published now is left to others' sweeps."""
        if self._session.connected:
            try:
                await self._publish(list(self._offered))
                await self._sweep_once()
            except Transient as error:
                self._log.warning("left to the sweep of others", reason=str(error))
        await self._clear_once()

    async def _sweep_once(self) -> None:
        while True:
            async with transaction(self._pool) as tx:
                rows = await tx.fetch(_CLAIM, self._role, _SWEEP_ROWS)
            if rows:
                await reached("sweep.claimed")
                self._log.debug("swept", messages=len(rows))
                await self._publish([message(row) for row in rows])
            if len(rows) < _SWEEP_ROWS:
                break
        async with transaction(self._pool) as tx:
            for pending, lag in await tx.fetch(_PENDING, self._role):
                self._metrics.outbox_pending.set(pending)
                self._metrics.outbox_lag.set(float(lag))

    async def _publish(self, batch: Sequence[Message]) -> None:
        if not batch:
            return
        await reached("relay.publishing")
        confirmed, unroutable = await self._session.publish(batch)
        if confirmed:
            self._confirmed += confirmed
            self._settled.set()
        if unroutable:
            try:
                async with single_statements(self._pool) as tx:
                    await tx.execute(_BACK_OFF, list(unroutable), list(unroutable.values()))
            except Transient as error:
                self._log.warning("not routable, and not put off: will be tried again", reason=str(error))
        for identity, reason in unroutable.items():
            self._log.warning("not routable", outbox_id=identity, reason=reason)

    async def _clear_once(self) -> None:
        self._settled.clear()
        confirmed = list(self._confirmed)
        if not confirmed:
            return
        try:
            await reached("relay.confirmed")
            async with single_statements(self._pool) as tx:
                await tx.execute(_DELETE, confirmed)
            await reached("relay.deleted")
        except Transient as error:
            self._log.warning("published, not deleted: will be published again", reason=str(error))
        # Not before: what is cut short here is deleted at the end of the drain.
        del self._confirmed[: len(confirmed)]


def message(row: Record) -> Message:
    """One outbox row, as stored or as returned in a `message[]`, as what the session publishes."""
    return Message(
        id=row["id"],
        exchange=row["exchange"],
        routing_key=row["routing_key"],
        events=row["events"],
        body=row["body"].encode("utf-8"),
    )
