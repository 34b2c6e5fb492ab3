"""Many executions at once and messages that come again: exact counts, order in each lane, bounded memory, no noise."""

from __future__ import annotations

import asyncio
import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from interlock.contract import events
from tests.eventually import eventually
from tests.system.deployment import ids_of
from tests.system.history import each_completed_once, inversions, most_at_once

if TYPE_CHECKING:
    from uuid import UUID

    from interlock.local.daemons import Daemon
    from tests.system.deployment import Deployment

NOTHING: Final = "tests.system.actions:nothing"
COUNT: Final = 10_000
RATE: Final = COUNT / 60
MOST_MEMORY: Final = 120
"""MiB that one process of a daemon may have used at most."""


def is_past(loop: asyncio.AbstractEventLoop, moment: float) -> bool:
    return loop.time() >= moment


def most_memory(daemon: Daemon) -> int:
    """Return the most MiB that any process of a daemon has used: an executor, or a guardian or its worker."""
    pids = [daemon.pid, *map(int, Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split())]
    peaks = [re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) for pid in pids]
    return max(int(peak[1]) for peak in peaks if peak) // 1024


async def test_two_executors_and_two_workers_run_two_thousand_exactly_once_and_in_order(
    deployment: Deployment,
) -> None:
    await deployment.register("job", function=NOTHING, limit=50)
    completed = await deployment.subscribe("completions")
    await asyncio.gather(deployment.trio(), deployment.worker())
    ids = await deployment.submit("job", 2000)
    assert await deployment.until_ended(ids, timeout=60) == {"completed": 2000}
    await deployment.until_clean()
    await each_completed_once(deployment.connection, ids)
    assert await inversions(deployment.connection) == 0
    assert await most_at_once(deployment.connection) == {"action:job": 50}
    await eventually(lambda: len(completed) >= 2000)
    assert ids_of(completed) == dict.fromkeys(ids, 1)
    assert deployment.loud() == []
    peaks = [most_memory(daemon) for daemon in deployment.daemons]
    assert [peak <= MOST_MEMORY for peak in peaks] == [True] * 4, peaks


async def test_ten_thousand_in_a_minute_cause_no_warning_no_repair_and_no_idle_write(deployment: Deployment) -> None:
    await deployment.register("job", function=NOTHING)
    completed = await deployment.subscribe("completions")
    await deployment.trio()
    loop = asyncio.get_running_loop()
    began = loop.time()
    ids: list[UUID] = []
    while len(ids) < COUNT:
        ids += await deployment.submit("job", 25)
        await eventually(partial(is_past, loop, began + len(ids) / RATE))
    assert await deployment.until_ended(ids, timeout=10) == {"completed": COUNT}
    await deployment.until_clean()
    await each_completed_once(deployment.connection, ids)
    await eventually(lambda: len(completed) == COUNT)
    assert ids_of(completed) == dict.fromkeys(ids, 1)
    assert {each["id"] for each in completed} == {f"{identity}/1/completed" for identity in ids}
    assert deployment.loud() == []
    assert await deployment.metric("executor", "interlock_repairs_total") == 0
    assert await deployment.metric("worker", "interlock_repairs_total") == 0
    assert await deployment.metric("executor", "interlock_behind_total") == 0


async def test_messages_that_come_three_times_more_change_nothing_and_disturb_nobody(deployment: Deployment) -> None:
    await deployment.register("job", function=NOTHING, limit=3)
    completed, status = await deployment.subscribe("completions"), await deployment.subscribe("status")
    await deployment.trio()
    ids = await deployment.submit("job", 20)
    await deployment.until_ended(ids)
    await deployment.until_clean()
    await all_handled(deployment, 60)
    assert (len(completed), len(status)) == (20, 40)
    tables = ("execution", "execution_transition", "execution_attempt", "slot", "queue", "lane", "outbox", "in_flight")
    before = await written(deployment, tables)
    skipped = await deployment.metric("executor", "interlock_writes_skipped_total")
    again = {"completions": list(completed), "status": list(status)}
    for exchange, heard in again.items():
        for each in heard * 3:
            to = each["data"]["status"] if exchange == "completions" else f"{each['data']['to']}.leaf"
            key = f"{each['type']}.{to}"
            await deployment.publish(json.dumps(each).encode(), events.SINGLE, exchange=exchange, key=key)
    await all_handled(deployment, 240)
    assert await written(deployment, tables) == before
    completions = {"type": "execution.completed"}
    assert [
        await deployment.metric("executor", "interlock_messages_total", **completions, outcome=outcome)
        for outcome in ("processed", "duplicate")
    ] == [20, 60]
    # Each repeat of a last status says what the row says already.
    assert await deployment.metric("executor", "interlock_writes_skipped_total") == skipped + 60
    assert await deployment.metric("executor", "interlock_repairs_total") == 0
    assert deployment.loud() == []


async def all_handled(deployment: Deployment, count: int) -> None:
    """Wait until the executors have handled this many status changes and completions, and no more."""
    kinds = ("execution.status_changed", "execution.completed")

    async def handled() -> bool:
        found = [await deployment.metric("executor", "interlock_messages_total", type=kind) for kind in kinds]
        assert sum(found) == count, found
        return True

    await eventually(handled)


async def written(deployment: Deployment, tables: tuple[str, ...]) -> dict[str, str]:
    """Return a fingerprint of all versions of all rows of these tables: a write that changes nothing shows as well."""
    return {
        table: await deployment.connection.fetchval(
            f"SELECT md5(coalesce(string_agg(t.xmin::text || t::text, ',' ORDER BY t::text), '')) FROM {table} t"  # noqa: S608 - our names
        )
        for table in tables
    }
