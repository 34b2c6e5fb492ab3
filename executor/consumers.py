"""Consumes one queue in natural batches: decode, handle, acknowledge, and publish what was committed.

Each statement of a handler is a transaction of its own, which saves two round trips, unless the handler begins one. It
may be repeated by itself: what is cut short between two of them is delivered and handled again.

A flush that fails on data is split into halves, down to the one event that fails, which is parked with its reason. A
flush that fails in passing is done again whole. When PostgreSQL does not answer, consuming stops until it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from executor import store
from executor.handlers.outgoing import Outgoing
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

Handler = Callable[["Tx", Sequence[Any]], Awaitable[Outgoing]]
FLUSH_EVENTS: Final = 500
QUICK_RETRIES: Final = 5
DATABASE_PAUSE_SECONDS: Final = 1.0
MOST_IN_VAIN: Final = 3


class Consumer:
    """One queue and its handlers by event type; types of one flush are handled one after the other."""

    def __init__(
        self,
        subscription: Subscription,
        handlers: dict[type[events.Event], Handler],
        *,
        pool: Pool[Any],
        relay: Relay,
        actor: str,
        metrics: Metrics,
        readiness: Readiness,
        stray_reason: str = "wrong_queue",
    ) -> None:
        self._subscription = subscription
        self._handlers = handlers
        self._pool = pool
        self._relay = relay
        self._actor = actor
        self._metrics = metrics
        self._readiness = readiness
        self._stray_reason = stray_reason
        self._queue = subscription.queue.name
        self._flow = self._queue.rpartition(".")[2]
        self._log = get_logger("consumer").bind(queue=self._queue)

    async def run(self) -> None:
        """Consume until cancelled."""
        while True:
            await self._subscription.wait()
            found, unusable, last = self._take()
            if last is None:
                continue
            await reached("taken", self._flow)
            for kind, handler in self._handlers.items():
                batch = [event for event in found if type(event) is kind]
                if batch:
                    await self._persistently(handler, batch)
            strays = [event for event in found if type(event) not in self._handlers]
            if strays or unusable:
                await self._persistently(self._park_only, [*strays, *unusable])
            await reached("offered", self._flow)
            await self._subscription.ack(last)
            await reached("acknowledged", self._flow)

    def _take(self) -> tuple[list[events.Event], list[store.Parked], Delivery | None]:
        found: list[events.Event] = []
        parked: list[store.Parked] = []
        last = None
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
        return found, parked, last

    async def _persistently(self, handler: Handler, batch: Sequence[Any]) -> None:
        """Flush until it is committed; what passes is waited for, without holding what others could take."""
        tries = 0
        while True:
            try:
                await self._flush(handler, batch)
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
            return

    async def _flush(self, handler: Handler, batch: Sequence[Any]) -> None:
        try:
            async with single_statements(self._pool) as tx:
                outgoing = await handler(tx, batch)
                if outgoing.parked:
                    await store.park(tx, outgoing.parked)
                await reached("handled", self._flow)
        except (Transient, Misconfigured):
            raise
        except Exception as error:  # noqa: BLE001 - a delivery ends here: one event must not stop all that follow it
            await self._split(handler, batch, error)
            return
        await reached("committed", self._flow)
        for parked in outgoing.parked:
            self._metrics.messages.labels("any", "poison").inc()
            self._log.info("parked", reason=parked.reason, detail=parked.detail)
        self._metrics.flush_size.labels(self._queue).observe(len(batch))
        self._relay.offer(outgoing.messages)
        await self.admit_on(outgoing.more)

    async def _split(self, handler: Handler, batch: Sequence[Any], error: Exception) -> None:
        """Halve until the one event is found that cannot be handled; that one is parked with its reason."""
        if len(batch) > 1:
            half = len(batch) // 2
            await self._flush(handler, batch[:half])
            await self._flush(handler, batch[half:])
            return
        reason = error.reason if isinstance(error, Poison) else "bug"
        self._log.error("parked one event", reason=reason, exc_info=None if isinstance(error, Poison) else error)
        async with single_statements(self._pool) as tx:
            await store.park(tx, [self._poison(batch[0], reason, str(error) or type(error).__name__)])

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

    def _poison(self, event: events.Event | store.Parked, reason: str, detail: str) -> store.Parked:
        if isinstance(event, store.Parked):
            return event
        body, content_type = events.encode([event])
        return store.Parked(queue=self._queue, reason=reason, detail=detail, content_type=content_type, body=body)

    async def _park_only(self, tx: Tx, batch: Sequence[events.Event | store.Parked]) -> Outgoing:
        del tx
        detail = "nothing here handles an event of this type"
        return Outgoing(parked=[self._poison(event, self._stray_reason, detail) for event in batch])
