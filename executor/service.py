"""Wires one executor: the only place that makes connections and hands them to whoever works with them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from executor.consumers import Consumer
from executor.handlers.cancel_requested import CancelRequested
from executor.handlers.completed import CompletionListener
from executor.handlers.requested import Judged, Requested
from executor.handlers.status_changed import ExecutionManager
from executor.loops.periodic import Context, every
from executor.loops.reaper import Reaper
from executor.loops.reconciler import Batches, housekeeping, partitions, reconciler
from executor.loops.timers import timers
from interlock.acceptance.catalog import Catalog
from interlock.adapters import migrations
from interlock.adapters.amqp import Session
from interlock.adapters.health import HealthServer, Readiness
from interlock.adapters.lifecycle import end_all
from interlock.adapters.logs import get_logger
from interlock.adapters.outbox import PUBLISHERS, Relay
from interlock.adapters.postgres import mapped_errors, open_pool, starting
from interlock.adapters.systemd import Notify, watchdog
from interlock.adapters.telemetry import Metrics
from interlock.contract import events
from interlock.contract.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from asyncpg import Pool

    from executor.settings import Settings
    from interlock.adapters.lifecycle import Stop
    from interlock.contract.topology import Queue

CONNECTIONS = 10
HOUR_SECONDS = 3_600.0
DAY_SECONDS = 86_400.0


class Service:
    """One executor process: what it is made of, and its life from start to drain."""

    def __init__(self, settings: Settings, stop: Stop) -> None:
        self._settings = settings
        self._stop = stop
        self._identity = str(uuid4())
        self._actor = f"/executor/{self._identity}"
        self._metrics = Metrics()
        self._catalog = Catalog()
        self._readiness = Readiness("broker", "database")
        self._notify = Notify()
        self._topology = Topology(settings.prefix)
        self._session = Session(settings.amqp_url.get_secret_value(), self._topology, self._identity, self._readiness)
        self._log = get_logger("executor").bind(executor=self._identity)

    async def run(self) -> int:
        """Serve until asked to stop. Raises Unavailable or Misconfigured when it cannot start."""
        settings = self._settings
        health = HealthServer(settings.http, self._readiness, self._metrics) if settings.http else None
        if health:
            health.bind()
        pool = await open_pool(
            settings.database_url.get_secret_value(), application="interlock-executor", size=CONNECTIONS
        )
        try:
            with starting(), mapped_errors():
                async with pool.acquire() as connection:
                    await migrations.verify(connection)
            await self._serve(pool, health)
        finally:
            await self._session.close()
            pool.terminate()
        self._log.info("stopped")
        return 0

    async def _serve(self, pool: Pool[Any], health: HealthServer | None) -> None:
        relay = Relay(pool, self._session, "executor", self._metrics, self._settings.sweep)
        consumers = self._consumers(pool, relay)
        await self._session.start()
        async with asyncio.TaskGroup() as tasks:
            if health:
                tasks.create_task(health.serve(self._stop))
            context = Context(
                pool=pool,
                relay=relay,
                actor=self._actor,
                catalog=self._catalog,
                metrics=self._metrics,
                readiness=self._readiness,
            )
            with starting():
                await partitions(context)
            consuming = (life for consumer in consumers for life in consumer.lives())
            lives = [*self._lives(relay), *consuming, *self._loops(context)]
            work = [tasks.create_task(life) for life in lives]
            self._log.info("ready")
            self._notify.ready()
            await self._stop.wait()
            self._log.info("draining")
            self._notify.stopping()
            await end_all(work)
            await relay.flush()
            if health:
                health.close()

    def _lives(self, relay: Relay) -> list[Coroutine[Any, Any, None]]:
        return [
            self._session.run(),
            self._session.watch(),
            self._session.listen(self._on_control),
            *(relay.publish_offered() for _ in range(PUBLISHERS)),
            relay.clear(),
            relay.sweep(),
            relay.listen(),
            self._metrics.probe_loop_lag(),
            watchdog(self._notify, lambda: self._readiness.ready),
        ]

    def _consumers(self, pool: Pool[Any], relay: Relay) -> list[Consumer]:
        actor, metrics, topology = self._actor, self._metrics, self._topology
        requested = Requested(actor=actor, queue=topology.requests_queue.name, catalog=self._catalog, metrics=metrics)
        manager = ExecutionManager(actor=actor, catalog=self._catalog, metrics=metrics)
        wanted: tuple[tuple[Queue, dict[type[Any], Any]], ...] = (
            (topology.requests_queue, {Judged: requested, events.CancelRequested: CancelRequested(actor=actor)}),
            (topology.status_queue, {events.StatusChanged: manager}),
            (topology.completed_queue, {events.Completed: CompletionListener(actor=actor, metrics=metrics)}),
            (topology.dead_queue, {}),
        )
        return [
            Consumer(
                self._session.subscribe(queue),
                handlers,
                pool=pool,
                relay=relay,
                actor=actor,
                metrics=metrics,
                readiness=self._readiness,
                prepare={events.Requested: requested.judge} if queue == topology.requests_queue else None,
            )
            for queue, handlers in wanted
        ]

    def _loops(self, context: Context) -> list[Coroutine[Any, Any, None]]:
        settings = self._settings
        return [
            every(settings.timers, timers, context),
            every(settings.reconcile, reconciler, context),
            every(settings.reconcile, Batches(), context),
            every(settings.reaper, Reaper(settings.lease, period_seconds=settings.reaper), context),
            every(HOUR_SECONDS, housekeeping, context),
            every(DAY_SECONDS, partitions, context),
        ]

    async def _on_control(self, event: events.Event) -> None:
        self._log.debug("nothing to do", type=event.type)
