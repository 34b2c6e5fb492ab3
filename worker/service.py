"""Wires one worker: the only place that makes connections and hands them to whoever works with them."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from interlock.acceptance.catalog import Catalog
from interlock.adapters import migrations
from interlock.adapters.amqp import Session
from interlock.adapters.faults import reached
from interlock.adapters.health import HealthServer, Readiness
from interlock.adapters.lifecycle import end_all
from interlock.adapters.logs import get_logger
from interlock.adapters.outbox import PUBLISHERS, Relay
from interlock.adapters.postgres import mapped_errors, open_pool, starting, transaction
from interlock.adapters.systemd import Notify, watchdog
from interlock.adapters.telemetry import Metrics
from interlock.contract import events
from interlock.contract.errors import Transient
from interlock.contract.topology import Topology
from worker import store
from worker.claim import Claimer
from worker.execute import Executions, Runners
from worker.finish import Finisher, LogWriter
from worker.holdings import Holdings
from worker.lease import Lease
from worker.planning import Planner
from worker.runners.address import Guard
from worker.runners.command import scrubbed
from worker.runners.function import Functions
from worker.runners.http import http_client
from worker.runners.warm import WarmProcesses, surrounding
from worker.settings import environment

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from asyncpg import Pool

    from interlock.adapters.lifecycle import Stop
    from interlock.adapters.subscription import Subscription
    from worker.heartbeat import Heartbeat
    from worker.settings import Settings

CONNECTIONS = 6
THREADS = 32
RETIRE_SECONDS = 10.0


class Service:
    """One incarnation of a worker: what it is made of, and its life from registration to the end of its drain."""

    def __init__(self, settings: Settings, stop: Stop, heartbeat: Heartbeat | None, containment: str) -> None:
        self._settings = settings
        self._containment = containment
        self._stop = stop
        self._heartbeat = heartbeat
        self._identity = uuid4()
        self._actor = f"/worker/{self._identity}"
        self._catalog = Catalog()
        self._metrics = Metrics()
        self._readiness = Readiness("broker", "lease")
        self._notify = Notify()
        self._topology = Topology(settings.prefix)
        self._holdings = Holdings(settings.concurrency)
        self._session = Session(
            settings.amqp_url.get_secret_value(), self._topology, str(self._identity), self._readiness
        )
        self._log = get_logger("worker").bind(worker=str(self._identity))

    async def run(self) -> int:
        """Work until asked to stop. Raises Unavailable or Misconfigured when it cannot start."""
        settings = self._settings
        url = settings.database_url.get_secret_value()
        health = HealthServer(settings.http, self._readiness, self._metrics) if settings.http else None
        if health:
            health.bind()
        pool = await open_pool(url, application="interlock-worker", size=CONNECTIONS)
        # The lease has a connection of its own: it must not wait for work, nor work for it.
        lease_pool = await open_pool(url, application="interlock-lease", size=1, statement_seconds=settings.renew)
        try:
            with starting(), mapped_errors():
                async with pool.acquire() as connection:
                    await migrations.verify(connection)
            await self._serve(pool, lease_pool, health)
        finally:
            await self._session.close()
            pool.terminate()
            lease_pool.terminate()
        self._log.info("stopped")
        return 0

    async def _serve(self, pool: Pool[Any], lease_pool: Pool[Any], health: HealthServer | None) -> None:
        settings, session, topology = self._settings, self._session, self._topology
        dispatch = session.subscribe(
            topology.pool_queue(settings.pool), binding=topology.pool_binding(settings.pool), prefetch=4
        )
        nudges = session.subscribe(topology.relay_queue)
        relay = Relay(pool, session, "worker", self._metrics, settings.sweep)
        finisher = Finisher(
            self._identity, self._actor, pool=pool, relay=relay, holdings=self._holdings, metrics=self._metrics
        )
        logs = LogWriter(pool)
        await session.start()
        threads = ThreadPoolExecutor(min(THREADS, settings.concurrency), thread_name_prefix="action")
        warm = WarmProcesses(settings.functions, surrounding(environment()))
        guard = Guard(settings.http_allow)
        async with http_client(guard) as client, asyncio.TaskGroup() as tasks:
            if health:
                tasks.create_task(health.serve(self._stop))
            runners = Runners(
                functions=Functions(settings.functions),
                threads=threads,
                warm=warm,
                client=client,
                guard=guard,
                inherited=scrubbed(environment()),
            )
            executions = self._executions(tasks, runners, finisher, logs, pool)
            claimer = self._claimer(dispatch, pool, relay, executions)
            with starting():
                lease = await self._register(lease_pool, finisher)
            claiming = [tasks.create_task(claimer.from_messages()), tasks.create_task(claimer.left_behind())]
            claiming.append(tasks.create_task(claimer.from_table()))
            renewing = tasks.create_task(lease.run())
            keeping = [tasks.create_task(life) for life in self._lives(relay, finisher, logs, nudges)]
            keeping.append(tasks.create_task(warm.tend()))
            self._log.info("ready", pool=settings.pool, concurrency=settings.concurrency, containment=self._containment)
            self._notify.ready()
            await self._stop.wait()
            await self._drain(pool, dispatch, claiming)
            await reached("drain.emptied")
            await end_all(keeping)
            await self._retire(pool, relay, logs, lease, renewing)
            if health:
                health.close()
        threads.shutdown(wait=False, cancel_futures=True)

    def _executions(
        self, tasks: asyncio.TaskGroup, runners: Runners, finisher: Finisher, logs: LogWriter, pool: Pool[Any]
    ) -> Executions:
        return Executions(
            tasks,
            runners=runners,
            planner=Planner(self._identity, pool=pool, catalog=self._catalog),
            holdings=self._holdings,
            finisher=finisher,
            logs=logs,
            metrics=self._metrics,
        )

    def _claimer(self, dispatch: Subscription, pool: Pool[Any], relay: Relay, executions: Executions) -> Claimer:
        return Claimer(
            self._identity,
            self._actor,
            pool_name=self._settings.pool,
            subscription=dispatch,
            pool=pool,
            relay=relay,
            catalog=self._catalog,
            holdings=self._holdings,
            executions=executions,
            metrics=self._metrics,
        )

    def _lives(
        self, relay: Relay, finisher: Finisher, logs: LogWriter, nudges: Subscription
    ) -> list[Coroutine[Any, Any, None]]:
        """What runs for as long as anything is held, beside the renewing of the lease."""
        return [
            self._session.run(),
            self._session.watch(),
            self._session.listen(self._on_control),
            *(relay.publish_offered() for _ in range(PUBLISHERS)),
            relay.clear(),
            relay.sweep(),
            finisher.run(),
            logs.run(),
            self._hear_nudges(nudges, relay),
            self._metrics.probe_loop_lag(),
            watchdog(self._notify, lambda: self._readiness.ready),
        ]

    async def _retire(
        self, pool: Pool[Any], relay: Relay, logs: LogWriter, lease: Lease, renewing: asyncio.Task[None]
    ) -> None:
        """Say what is left to be said, and renew the lease for as long as that takes. Then close the row."""
        try:
            async with asyncio.timeout(RETIRE_SECONDS):
                await logs.flush()
                await relay.flush()
                await reached("retire.flushed")
                # A renewal that finds the row closed would take this for a lost lease.
                await end_all([renewing])
                async with transaction(pool) as tx:
                    await store.retire(tx, self._identity)
                # Nothing is held and no lease can end any more: the guardian's whole time is there for the exit.
                lease.beat(time.monotonic())
                await reached("retire.committed")
        except (Transient, TimeoutError) as error:
            # Nothing is held any more: its lease ends, and an executor closes the row.
            self._log.warning("ended without the database", reason=str(error) or "no answer in time")
        finally:
            await end_all([renewing])

    async def _register(self, pool: Pool[Any], finisher: Finisher) -> Lease:
        settings = self._settings
        sent_at = time.monotonic()
        async with transaction(pool) as tx:
            await store.register(
                tx,
                self._identity,
                pool=settings.pool,
                capacity=settings.concurrency,
                host=socket.gethostname(),
                pid=os.getpid(),
                containment=self._containment,
                lease=settings.lease,
            )
        await reached("worker.registered")
        lease = Lease(
            self._identity,
            pool=pool,
            length=settings.lease,
            renew=settings.renew,
            holdings=self._holdings,
            finisher=finisher,
            heartbeat=self._heartbeat,
            stop=self._stop,
            readiness=self._readiness,
            clock=lambda: datetime.now(UTC),
        )
        lease.beat(sent_at)
        return lease

    async def _drain(self, pool: Pool[Any], dispatch: Subscription, claiming: list[asyncio.Task[None]]) -> None:
        """Take nothing more, give back what was not taken, finish what runs within the time, hand back the rest."""
        settings = self._settings
        self._log.info("draining", held=len(self._holdings))
        self._notify.stopping()
        self._notify.extend(settings.drain + settings.lease)
        await dispatch.pause()
        await reached("drain.begun")
        try:
            async with transaction(pool) as tx:
                await store.start_draining(tx, self._identity)
            await reached("drain.told")
        except Transient as error:
            self._log.warning("drains without the database knowing", reason=str(error))
        # A claim under way is let through: what it claims is ours and is finished or handed back below.
        await self._holdings.claimed()
        await reached("drain.claimed")
        await end_all(claiming)
        try:
            async with asyncio.timeout(settings.drain):
                await self._holdings.empty()
        except TimeoutError:
            self._log.warning("handing back what still runs", held=len(self._holdings))
            self._holdings.end_all("handed_back")
            await self._holdings.empty()

    async def _hear_nudges(self, nudges: Subscription, relay: Relay) -> None:
        """Sweep when an executor ended something itself: its completion waits for a worker to publish it."""
        while True:
            await nudges.wait()
            last = None
            while (delivery := nudges.pop()) is not None:
                last = delivery
            relay.nudge()
            if last is not None:
                await nudges.ack(last)

    async def _on_control(self, event: events.Event) -> None:
        if isinstance(event, events.Cancel) and event.data.force:
            self._holdings.force(event.data.id, event.data.attempt)
        elif isinstance(event, events.Cancel):
            self._holdings.end(event.data.id, "cancelled", event.data.attempt)
