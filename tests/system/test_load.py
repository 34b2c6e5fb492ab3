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

if TYPE_CHECKING:
    from uuid import UUID

    from interlock.local.daemons import Daemon
    from tests.system.deployment import Deployment

NOTHING: Final = "tests.system.actions:nothing"
COUNT: Final = 10_000
RATE: Final = COUNT / 60
MOST_MEMORY: Final = 120
"""MiB that one process of a daemon may have used at most."""
OUT_OF_ORDER: Final = """
SELECT count(*) FROM (
    SELECT seq, max(seq) OVER (PARTITION BY lane_id ORDER BY position ROWS UNBOUNDED PRECEDING) AS newest
    FROM execution_transition WHERE target = 'scheduled' AND lane_id IS NOT NULL) t
WHERE seq < newest
"""
OVER_THE_LIMIT: Final = """
SELECT max(held) FROM (
    SELECT sum(CASE WHEN target = 'scheduled' THEN 1 WHEN source IS NOT NULL AND finished THEN -1 ELSE 0 END)
           OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS held
    FROM (SELECT position, source, target, is_terminal(target) AS finished FROM execution_transition) t) s
"""


async def each_completed_once(deployment: Deployment, ids: list[UUID]) -> None:
    """Assert three moves and one attempt each, and not one write that changed nothing."""
    fetchval = deployment.connection.fetchval
    assert await fetchval("SELECT count(*) FROM execution WHERE status = 'completed' AND attempt = 1") == len(ids)
    assert await fetchval("SELECT count(*) FROM execution_attempt") == len(ids)
    assert await fetchval("SELECT count(*) FROM execution_transition WHERE is_terminal(target)") == len(ids)
    assert await fetchval("SELECT count(*) FROM execution_transition WHERE source = target") == 0


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
    daemons = [daemon for pair in await asyncio.gather(deployment.pair(), deployment.pair()) for daemon in pair]
    ids = await deployment.submit("job", 2000)
    assert await deployment.until_ended(ids, timeout=60) == {"completed": 2000}
    await deployment.until_clean()
    await each_completed_once(deployment, ids)
    assert await deployment.connection.fetchval(OUT_OF_ORDER) == 0
    assert await deployment.connection.fetchval(OVER_THE_LIMIT) <= 50
    await eventually(lambda: len(completed) >= 2000)
    assert ids_of(completed) == dict.fromkeys(ids, 1)
    assert deployment.loud() == []
    assert [most_memory(daemon) <= MOST_MEMORY for daemon in daemons] == [True] * 4, list(map(most_memory, daemons))


async def test_ten_thousand_in_a_minute_cause_no_warning_no_repair_and_no_idle_write(deployment: Deployment) -> None:
    await deployment.register("job", function=NOTHING)
    completed = await deployment.subscribe("completions")
    executor, worker = await deployment.pair()
    loop = asyncio.get_running_loop()
    began = loop.time()
    ids: list[UUID] = []
    while len(ids) < COUNT:
        ids += await deployment.submit("job", 25)
        await eventually(partial(is_past, loop, began + len(ids) / RATE))
    assert await deployment.until_ended(ids, timeout=10) == {"completed": COUNT}
    await deployment.until_clean()
    await each_completed_once(deployment, ids)
    await eventually(lambda: len(completed) == COUNT)
    assert ids_of(completed) == dict.fromkeys(ids, 1)
    assert {each["id"] for each in completed} == {f"{identity}/1/completed" for identity in ids}
    assert deployment.loud() == []
    assert [await deployment.metric(daemon, "interlock_repairs_total") for daemon in (executor, worker)] == [0, 0]
    assert await deployment.metric(executor, "interlock_behind_total") == 0


async def test_messages_that_come_three_times_more_change_nothing_and_disturb_nobody(deployment: Deployment) -> None:
    await deployment.register("job", function=NOTHING, limit=3)
    completed, status = await deployment.subscribe("completions"), await deployment.subscribe("status")
    executor, _ = await deployment.pair()
    ids = await deployment.submit("job", 20)
    await deployment.until_ended(ids)
    await deployment.until_clean()
    await eventually(lambda: len(completed) >= 20 and len(status) >= 40)
    tables = ("execution", "execution_transition", "execution_attempt", "slot", "queue", "lane", "outbox", "in_flight")
    before = await written(deployment, tables)
    processed = await handled(deployment, executor)
    skipped = await deployment.metric(executor, "interlock_writes_skipped_total")
    again = {"completions": list(completed), "status": list(status)}
    for exchange, heard in again.items():
        for each in heard * 3:
            to = each["data"]["status"] if exchange == "completions" else f"{each['data']['to']}.leaf"
            key = f"{each['type']}.{to}"
            await deployment.publish(json.dumps(each).encode(), events.SINGLE, exchange=exchange, key=key)
    expected = processed + 3 * (len(again["completions"]) + len(again["status"]))

    async def all_handled() -> bool:
        return await handled(deployment, executor) == expected

    await eventually(all_handled)
    assert await written(deployment, tables) == before
    # Each repeat of a last status says what the row says already.
    assert await deployment.metric(executor, "interlock_writes_skipped_total") == skipped + 60
    assert await deployment.metric(executor, "interlock_repairs_total") == 0
    assert deployment.loud() == []


async def handled(deployment: Deployment, executor: Daemon) -> float:
    """Return how many status changes and completions an executor handled."""
    kinds = ("execution.status_changed", "execution.completed")
    return sum([await deployment.metric(executor, "interlock_messages_total", type=kind) for kind in kinds])


async def written(deployment: Deployment, tables: tuple[str, ...]) -> dict[str, str]:
    """Return a fingerprint of all versions of all rows of these tables: a write that changes nothing shows as well."""
    return {
        table: await deployment.connection.fetchval(
            f"SELECT md5(coalesce(string_agg(t.xmin::text || t::text, ',' ORDER BY t::text), '')) FROM {table} t"  # noqa: S608 - our names
        )
        for table in tables
    }
