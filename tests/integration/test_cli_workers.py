"""`interlock workers`: what is told of each, which ones a word means, and what draining does to the row."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from tests.cli import Interlock, interlock_on
from tests.eventually import eventually

if TYPE_CHECKING:
    from tests.world import World

FIRST = UUID("0a000000-0000-4000-8000-0000000000aa")
SECOND = UUID("0b000000-0000-4000-8000-0000000000bb")
THIRD = UUID("0b000000-0000-4000-8000-0000000000cc")


@pytest.fixture
def interlock(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Interlock:
    """Run one command on the stage; returns its exit code and what it said."""
    return interlock_on(world.url, monkeypatch, capsys)


async def _worker(
    world: World, identity: UUID, *, pool: str = "gpu", host: str = "here", lease: float = 3600, age: float = 60
) -> UUID:
    await world.tx.execute(
        "INSERT INTO worker (id, pool, capacity, host, pid, containment, started_at, lease_expires_at)"
        " VALUES ($1, $2, 4, $3, 7, 'cgroup', now() - $5 * interval '1 second', now() + $4 * interval '1 second')",
        identity,
        pool,
        host,
        lease,
        age,
    )
    return identity


async def _draining(world: World) -> set[UUID]:
    rows = await world.tx.fetch("SELECT id FROM worker WHERE draining")
    return {row["id"] for row in rows}


async def test_list_shows_each_worker_with_what_it_runs_and_its_lease_by_pool_and_age(
    world: World, interlock: Interlock
) -> None:
    await _worker(world, SECOND, age=3700)
    await _worker(world, FIRST, lease=-5, age=60)
    await world.tx.execute("UPDATE worker SET draining = true WHERE id = $1", FIRST)
    ids = await world.submit(3)
    assert await world.claim(world.hand, *ids[:2]) == 2
    said = await interlock("workers", "list")
    assert (said.code, said.err) == (0, "")
    head, hand, second, first = said.out.splitlines()
    assert head.split() == ["id", "pool", "host", "pid", "containment", "running", "capacity", "lease", "started"]
    assert hand.split()[:8] == [str(world.hand)[-8:], "default", "test", "1", "guardian", "2", "100", "59m"]
    assert second.split()[:7] == ["000000bb", "gpu", "here", "7", "cgroup", "0", "4"]
    assert second.endswith("1h 1m ago")
    assert first.startswith("000000aa  gpu      here  7    cgroup       0        4         ended 5.")
    assert first.endswith("1m 0s ago  draining, lost")


async def test_list_as_json_has_every_field_and_the_lease_by_the_clock_of_the_database(
    world: World, interlock: Interlock
) -> None:
    await _worker(world, FIRST, lease=20)
    (told,) = json.loads((await interlock("workers", "list", "--pool", "gpu", "--json")).out)
    since = await world.tx.fetchval("SELECT started_at FROM worker WHERE id = $1", FIRST)
    assert told.pop("started_at") == since.isoformat().replace("+00:00", "Z")
    assert 10 < told.pop("lease_left") < 20
    assert told == {
        "id": str(FIRST),
        "pool": "gpu",
        "host": "here",
        "pid": 7,
        "containment": "cgroup",
        "capacity": 4,
        "running": 0,
        "draining": False,
    }


async def test_list_leaves_out_what_has_ended_and_says_so_when_nobody_is_left(
    world: World, interlock: Interlock
) -> None:
    await _worker(world, FIRST)
    assert json.loads((await interlock("workers", "list", "--host", "elsewhere", "--json")).out) == []
    await world.tx.execute("UPDATE worker SET ended_at = now()")
    said = await interlock("workers", "list")
    assert (said.code, said.out) == (0, "")
    assert said.err == "no such worker lives: `interlock-worker` starts one\n"


@pytest.mark.parametrize("word", [str(FIRST), "0a00", "00aa", "0A000000-0000", "0000000000AA"])
async def test_drain_marks_the_worker_that_a_word_means_and_no_other(
    world: World, interlock: Interlock, word: str
) -> None:
    await _worker(world, FIRST)
    await _worker(world, SECOND)
    said = await interlock("workers", "drain", word)
    assert (said.code, said.out, said.err) == (0, "000000aa (gpu, here:7) drains: 0 running\n", "")
    assert await _draining(world) == {FIRST}
    written = await world.tx.fetchval("SELECT xmin::text FROM worker WHERE id = $1", FIRST)
    assert (await interlock("workers", "drain", word)).out == "000000aa (gpu, here:7) drains already: 0 running\n"
    # Where nothing changes, nothing is written.
    assert await world.tx.fetchval("SELECT xmin::text FROM worker WHERE id = $1", FIRST) == written


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--pool", "gpu"], {FIRST, SECOND}),
        (["--host", "there"], {SECOND, THIRD}),
        (["--pool", "gpu", "--host", "there"], {SECOND}),
        (["00aa", "00cc", "00aa"], {FIRST, THIRD}),
    ],
)
async def test_drain_takes_a_pool_a_host_or_several_ids(
    world: World, interlock: Interlock, options: list[str], wanted: set[UUID]
) -> None:
    await _worker(world, FIRST)
    await _worker(world, SECOND, host="there")
    await _worker(world, THIRD, pool="other", host="there")
    said = await interlock("workers", "drain", *options, "--json")
    assert said.code == 0
    assert {(UUID(each["id"]), each["draining"], each["lost"]) for each in json.loads(said.out)} == {
        (identity, True, False) for identity in wanted
    }
    assert await _draining(world) == wanted


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "say which: ids, or --pool or --host"),
        (["00aa", "--pool", "gpu"], 2, "say which: ids, or --pool or --host"),
        (["--pool", "gpo"], 1, "no worker is in the pool 'gpo'; did you mean \"gpu\"?"),
        (["--host", "nowhere"], 1, "no worker is on the host 'nowhere'"),
        (["0b00"], 1, "'0b00' may be 0b000000-0000-4000-8000-0000000000bb, 0b000000-0000-4000-8000-0000000000cc"),
        (["ffff"], 1, "no living worker has an id that begins or ends with 'ffff'"),
        (["x"], 1, "'x' is not an id"),
    ],
)
async def test_drain_of_nobody_in_particular_is_refused_with_what_to_do(
    world: World, interlock: Interlock, options: list[str], code: int, message: str
) -> None:
    for identity in (FIRST, SECOND, THIRD):
        await _worker(world, identity)
    said = await interlock("workers", "drain", *options)
    assert said.code == code
    assert message in said.err
    assert await _draining(world) == set()


async def test_a_worker_that_drains_gets_no_more_and_the_pool_shows_it(world: World, interlock: Interlock) -> None:
    await interlock("workers", "drain", str(world.hand))
    await world.submit(2)
    assert await world.tx.fetchval("SELECT count(*) FROM in_flight") == 0
    (pool,) = json.loads((await interlock("pools", "show", "--json")).out)
    assert (pool["workers"], pool["draining"], pool["waiting"]) == (0, 1, 2)


async def test_drain_waits_until_each_has_ended(world: World, interlock: Interlock) -> None:
    await _worker(world, FIRST)
    await _worker(world, SECOND)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(interlock("workers", "drain", "--pool", "gpu", "--wait"))
        await eventually(lambda: _draining(world))
        for identity in (FIRST, SECOND):
            assert not waiting.done()
            await world.tx.execute(
                "UPDATE worker SET ended_at = now(), lease_expires_at = now() WHERE id = $1", identity
            )
    assert (waiting.result().code, waiting.result().err) == (0, "")


async def test_a_worker_that_is_lost_while_it_drains_ends_the_waiting_with_1(
    world: World, interlock: Interlock
) -> None:
    await _worker(world, FIRST)
    await _worker(world, SECOND)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(interlock("workers", "drain", "00aa", "00bb", "--wait", "--json"))
        await eventually(lambda: _draining(world))
        await world.tx.execute("UPDATE worker SET ended_at = now(), lease_expires_at = now() WHERE id = $1", SECOND)
        await world.tx.execute("UPDATE worker SET lease_expires_at = now() - interval '1 second' WHERE id = $1", FIRST)
    said = waiting.result()
    assert said.code == 1
    assert {each["id"]: each["lost"] for each in json.loads(said.out)} == {str(FIRST): True, str(SECOND): False}
    assert "000000aa (gpu, here:7) was lost before it had drained" in said.err
