"""Consumes one queue in natural batches: decode, handle, acknowledge, and publish what was committed.

Each statement of a handler is a transaction of its own, which saves two round trips, unless the handler begins one. A
flush that fails in passing is done again whole, and what was cut short is delivered again; while PostgreSQL does not
answer, consuming stops. One that fails on data is halved down to the event that fails, which is parked. Where events
are prepared, those of the next flush are while one is with the database; flushes are handled in turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from executor import store
from executor.handlers.outgoing import Outgoing
from executor.handlers.requested import Judged
from interlock.adapters.faults import reached
from interlock.adapters.logs import get_logger
from interlock.adapters.postgres import single_statements
from interlock.contract import events
from interlock.contract.errors import Misconfigured, Poison, Transient

if TYPE_CHECKING:
    from asyncpg import Pool

    from interlock.adapters.health import Readiness
    from interlock.adapters.outbox import Relay
    from interlock.adapters.postgres import Tx
    from interlock.adapters.subscription import Delivery, Subscription
    from interlock.adapters.telemetry import Metrics

T = TypeVar("T")
Handler = Callable[["Tx", Sequence[Any]], Awaitable[Outgoing]]
Prepare = Callable[["Tx", Sequence[Any]], Awaitable[list[Any]]]
FLUSH_EVENTS: Final = 500
QUICK_RETRIES: Final = 5
DATABASE_PAUSE_SECONDS: Final = 1.0
MOST_IN_VAIN: Final = 3


@dataclass(frozen=True, slots=True)
class Flush:
    """What was taken at a time: events, some prepared, what is no event, and the delivery that acknowledges all."""

    found: list[Any]
    unusable: list[store.Parked]
    last: Delivery


class Consumer:
    """One queue and its handlers by what they are given; kinds of one flush are handled one after the other.

    `prepare` maps a type of events to what makes of them, one by one, what a handler is given; it may be repeated.
    """

    def __init__(
        self,
        subscription: Subscription,
        handlers: dict[type[Any], Handler],
        *,
        prepare: dict[type[events.Event], Prepare] | None = None,
        pool: Pool[Any],
        relay: Relay,
        actor: str,
        metrics: Metrics,
        readiness: Readiness,
    ) -> None:
        self._subscription = subscription
        self._handlers = handlers
        self._prepare = prepare or {}
        self._ahead: asyncio.Queue[Flush] = asyncio.Queue()
        self._pool = pool
        self._relay = relay
        self._actor = actor
        self._metrics = metrics
        self._readiness = readiness
        self._stray_reason = "wrong_queue" if handlers else "dead_letter"
        self._queue = subscription.queue.name
        self._flow = self._queue.rpartition(".")[2]
        self._log = get_logger("consumer").bind(queue=self._queue)

    def lives(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """Return what must run for the queue to be consumed; each runs until it is cancelled."""
        if not self._prepare:
            return (self._consume(self._next),)
        return self._read_ahead(), self._consume(self._turn)

    async def _read_ahead(self) -> None:
        while True:
            flush = await self._next()
            for kind, prepare in self._prepare.items():
                batch = [event for event in flush.found if type(event) is kind]
                if batch:
                    work = partial(self._halving, partial(self._prepared, prepare), batch)
                    prepared = await self._persistently(work)
                    others = [event for event in flush.found if type(event) is not kind]
                    flush = replace(flush, found=others + prepared)
            await self._ahead.put(flush)
            await self._ahead.join()

    async def _turn(self) -> Flush:
        flush = await self._ahead.get()
        self._ahead.task_done()
        return flush

    async def _consume(self, following: Callable[[], Awaitable[Flush]]) -> None:
        while True:
            flush = await following()
            await reached("taken", self._flow)
            for kind, handler in self._handlers.items():
                batch = [event for event in flush.found if type(event) is kind]
                if batch:
                    await self._persistently(partial(self._flush, handler, batch))
            strays = [event for event in flush.found if type(event) not in self._handlers]
            if strays or flush.unusable:
                await self._persistently(partial(self._flush, self._park_only, [*strays, *flush.unusable]))
            await reached("offered", self._flow)
            await self._subscription.ack(flush.last)
            await reached("acknowledged", self._flow)

    async def _next(self) -> Flush:
        found: list[events.Event] = []
        parked: list[store.Parked] = []
        last = None
        while last is None:
            await self._subscription.wait()
            while len(found) < FLUSH_EVENTS and (delivery := self._subscription.pop()) is not None:
                last = delivery
                usable, unusable = events.decode(delivery.body, delivery.content_type)
                found += usable
                parked += [
                    store.Parked(
                        queue=self._queue,
                        reason=bad.reason,
                        detail=bad.detail,
                        content_type=delivery.content_type,
                        body=bad.body,
                    )
                    for bad in unusable
                ]
        return Flush(found, parked, last)

    async def _persistently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Work until it is done; what passes is waited for, without holding what others could take."""
        tries = 0
        while True:
            try:
                done = await work()
            except Transient as error:
                tries += 1
                if tries < QUICK_RETRIES:
                    continue
                self._readiness.set(f"consumer {self._queue}", ok=False, reason=str(error))
                await self._subscription.pause()
                await asyncio.sleep(DATABASE_PAUSE_SECONDS)
                continue
            if tries >= QUICK_RETRIES:
                self._readiness.set(f"consumer {self._queue}", ok=True)
                await self._subscription.resume()
            return done

    async def _halving(self, work: Callable[[Sequence[Any]], Awaitable[list[T]]], batch: Sequence[Any]) -> list[T]:
        """Halve until the one event is found that fails; that one is parked with its reason."""
        try:
            return await work(batch)
        except (Transient, Misconfigured):
            raise
        except Exception as error:  # noqa: BLE001 - a delivery ends here: one event must not stop all that follow it
            if len(batch) == 1:
                await self._park_one(batch[0], error)
                return []
        half = len(batch) // 2
        return [*await self._halving(work, batch[:half]), *await self._halving(work, batch[half:])]

    async def _park_one(self, event: Any, error: Exception) -> None:  # noqa: ANN401 - whatever a handler is given
        reason = error.reason if isinstance(error, Poison) else "bug"
        self._log.error("parked one event", reason=reason, exc_info=None if isinstance(error, Poison) else error)
        async with single_statements(self._pool) as tx:
            await store.park(tx, [self._poison(event, reason, str(error) or type(error).__name__)])

    async def _prepared(self, prepare: Prepare, batch: Sequence[Any]) -> list[Any]:
        async with single_statements(self._pool) as tx:
            return await prepare(tx, batch)

    async def _flush(self, handler: Handler, batch: Sequence[Any]) -> None:
        committed = await self._halving(partial(self._committed, handler), batch)
        await reached("committed", self._flow)
        self._metrics.flush_size.labels(self._queue).observe(len(batch))
        for outgoing in committed:
            for parked in outgoing.parked:
                self._metrics.messages.labels("any", "poison").inc()
                self._log.info("parked", reason=parked.reason, detail=parked.detail)
            self._relay.offer(outgoing.messages)
            await self.admit_on(outgoing.more)

    async def _committed(self, handler: Handler, batch: Sequence[Any]) -> list[Outgoing]:
        async with single_statements(self._pool) as tx:
            outgoing = await handler(tx, batch)
            if outgoing.parked:
                await store.park(tx, outgoing.parked)
            await reached("handled", self._flow)
        return [outgoing]

    async def admit_on(self, keys: list[int]) -> None:
        """Go on admitting where room is left; a crash in between leaves the keys marked as owed."""
        in_vain = 0
        while keys and in_vain < MOST_IN_VAIN:
            async with single_statements(self._pool) as tx:
                admission = await store.admit(tx, self._actor, keys=keys)
            await reached("admission.committed")
            self._relay.offer(admission.messages)
            keys = admission.more
            # A call may only find that it must lock more keys; what goes on owing is left to the timers.
            in_vain = 0 if admission.admitted else in_vain + 1

    def _poison(self, event: events.Event | Judged | store.Parked, reason: str, detail: str) -> store.Parked:
        if isinstance(event, store.Parked):
            return event
        body, content_type = events.encode([event.event if isinstance(event, Judged) else event])
        return store.Parked(queue=self._queue, reason=reason, detail=detail, content_type=content_type, body=body)

    async def _park_only(self, tx: Tx, batch: Sequence[events.Event | store.Parked]) -> Outgoing:
        del tx
        detail = "nothing here handles an event of this type"
        return Outgoing(parked=[self._poison(event, self._stray_reason, detail) for event in batch])
