"""Metrics of one process: every instrument, its name and its labels in one place, in a registry of its own.

Must not decide anything: what is measured here is told, never read back (the loop's lag, which health reads, aside).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

DURATIONS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
"""Bucket bounds in seconds, from a quick HTTP call to a two-hour job."""
FLUSHES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
LAG_PERIOD: Final = 0.25
LAG_WINDOW: Final = 60
"""How many probes the lag gauge looks back on: 15 s, so that a usual scrape misses no peak."""


class Metrics:
    """The instruments of one process; `service.py` makes one and hands it to whoever measures."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._count_work()
        self._count_messages()
        self._count_healing()
        self._lags: deque[float] = deque(maxlen=LAG_WINDOW)

    def _count_work(self) -> None:
        self.executions = Counter(
            "interlock_executions_total",
            "Executions that a worker ended.",
            ["action", "status"],
            registry=self.registry,
        )
        self.execution_duration = Histogram(
            "interlock_execution_duration_seconds",
            "From running to the end of one attempt.",
            ["action"],
            buckets=DURATIONS,
            registry=self.registry,
        )
        self.queue_wait = Histogram(
            "interlock_queue_wait_seconds",
            "From accepted to running, of each attempt.",
            ["action"],
            buckets=DURATIONS,
            registry=self.registry,
        )

    def _count_messages(self) -> None:
        self.messages = Counter(
            "interlock_messages_total",
            "Messages handled; outcome is processed, duplicate, stale, forged or poison.",
            ["type", "outcome"],
            registry=self.registry,
        )
        self.writes_skipped = Counter(
            "interlock_writes_skipped_total", "Writes not made because the row said so already.", registry=self.registry
        )
        self.behind = Counter(
            "interlock_behind_total",
            "Rows found behind a message: a database failover lost a commit.",
            registry=self.registry,
        )
        self.flush_size = Histogram(
            "interlock_flush_size",
            "How many items one transaction handled.",
            ["kind"],
            buckets=FLUSHES,
            registry=self.registry,
        )

    def _count_healing(self) -> None:
        self.outbox_pending = Gauge("interlock_outbox_pending", "Committed, not yet published.", registry=self.registry)
        self.outbox_lag = Gauge(
            "interlock_outbox_lag_seconds", "Age of the oldest unpublished row.", registry=self.registry
        )
        self.leases_expired = Counter(
            "interlock_leases_expired_total", "Workers declared lost.", registry=self.registry
        )
        self.reaper_brakes = Counter(
            "interlock_reaper_brakes_total",
            "Times that so many leases ended at once that nobody was declared lost before a second look.",
            registry=self.registry,
        )
        self.repairs = Counter(
            "interlock_repairs_total",
            "What a loop put right because a message was lost.",
            ["kind"],
            registry=self.registry,
        )
        self.event_loop_lag = Gauge(
            "interlock_event_loop_lag_seconds",
            "How late the event loop was, at worst, in the last 15 seconds.",
            registry=self.registry,
        )

        self.tasks = Gauge("interlock_tasks", "Tasks on the event loop.", registry=self.registry)

    def render(self) -> tuple[bytes, str]:
        """Return the body and the content type of an answer to `/metrics`."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    async def probe_loop_lag(self) -> None:
        """Measure, until cancelled, how late the loop wakes what asked to be woken, and count its tasks."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_PERIOD
            await asyncio.sleep(LAG_PERIOD)
            self._lags.append(max(0.0, loop.time() - due))
            self.event_loop_lag.set(max(self._lags))
            self.tasks.set(len(asyncio.all_tasks()))
