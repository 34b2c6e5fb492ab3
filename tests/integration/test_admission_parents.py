"""Law 7. A parent never holds what its children need: parents take keys of their own scope, and no place in a pool."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.world import fresh_id

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from tests.world import World

JOB = "action:job"
_LANE = "SELECT (make_lanes($1, $2, $3, $4, $5, $6, $7, $8, $9, $10))[1]"
_INSERT = """
INSERT INTO execution (id, kind, status, action, parent_id, root_id, pool, lane_id, request_hash)
VALUES ($1, $2, 'requested', 'job', $3, $4, 'default', $5, sha256('a test'))
"""
_END = """
WITH moved AS (
    UPDATE execution SET status = 'completed', moves = moves + 1, finished_at = now()
    WHERE id = $1 AND status = 'running' RETURNING *
)
SELECT record_moves(array_agg(ROW(id, epoch, moves, 'running', status, attempt, action, parent_id, pool, NULL, NULL,
                                  NULL, NULL, NULL)::move), 'executor', '/executor/test') FROM moved
"""


async def enters(
    world: World, kind: str, *keys: tuple[str, str], lim: int | None = None, parent: UUID | None = None
) -> UUID:
    """Make the row of an execution that is due to enter a lane of these keys (scope, name); `lim` bounds new ones."""
    scopes, names = [scope for scope, _ in keys], [name for _, name in keys]
    same, none = [1] * len(keys), [None] * len(keys)
    lane = await world.tx.fetchval(_LANE, same, same, scopes, names, none, [lim] * len(keys), none, none, none, none)
    identity = fresh_id()
    async with world.tx.transaction():
        await world.tx.execute(_INSERT, identity, kind, parent, parent or identity, lane)
        await world.tx.execute(
            "INSERT INTO execution_transition (execution_id, move, target, attempt, epoch, actor)"
            " VALUES ($1, 1, 'requested', 0, 1, '/executor/test')",
            identity,
        )
        await world.tx.execute("INSERT INTO timer (execution_id, kind, due) VALUES ($1, 'enter', now())", identity)
    return identity


async def parent(world: World, name: str = JOB) -> UUID:
    """Make a batch that is due, with a key of the scope of parents that admits one."""
    return await enters(world, "batch", ("parent", name), lim=1)


async def child(world: World, of: UUID, *names: str, pool: str = "default") -> UUID:
    return await enters(world, "action", *(("leaf", name) for name in names), ("pool", pool), parent=of)


async def finish(world: World, identity: UUID) -> asyncpg.Record:
    """End a parent, as whoever decides it does, and release what it held."""
    await world.tx.execute(_END, identity)
    return await world.admit(ended=[identity])


async def holders(world: World, scope: str, name: str = JOB) -> set[UUID]:
    rows = await world.tx.fetch(
        "SELECT execution_id FROM slot s JOIN queue q ON q.id = s.key_id WHERE q.scope = $1 AND q.name = $2",
        scope,
        name,
    )
    return {row["execution_id"] for row in rows}


async def test_a_parent_starts_when_its_key_has_room_and_is_sent_to_no_worker(world: World) -> None:
    identity = await parent(world)
    row = await world.admit(entering=[identity])
    assert row["admitted"] == 1
    found = await world.tx.fetchrow(
        "SELECT status::text, attempt, moves, started_at IS NOT NULL AS started FROM execution WHERE id = $1", identity
    )
    assert found is not None
    assert tuple(found) == ("running", 0, 2, True)
    assert await holders(world, "parent") == {identity}
    assert await world.tx.fetchval("SELECT count(*) FROM in_flight") == 0
    assert await world.tx.fetchval("SELECT count(*) FROM timer") == 0
    told = {(m["exchange"], m["routing_key"]) for m in row["messages"]}
    assert told == {("status", "execution.status_changed.running.leaf")}
    (event,) = [json.loads(m["body"]) for m in row["messages"]]
    assert (event["data"]["from"], event["data"]["to"]) == ("requested", "running")


async def test_parents_of_one_key_run_one_after_the_other(world: World) -> None:
    first, second, third = [await parent(world) for _ in range(3)]
    assert (await world.admit(entering=[first, second, third]))["admitted"] == 1
    assert await world.statuses([first, second, third]) == ["running", "requested", "requested"]
    await world.audit()
    row = await finish(world, first)
    assert (row["released"], row["admitted"]) == (1, 1)
    assert await holders(world, "parent") == {second}
    assert await world.order() == [first, second]


async def test_a_parent_that_runs_releases_nothing_by_a_message_that_says_it_ended(world: World) -> None:
    first, second = await parent(world), await parent(world)
    await world.admit(entering=[first, second])
    assert (await world.admit(ended=[first, second]))["released"] == 0
    assert await holders(world, "parent") == {first}


async def test_releasing_a_parent_twice_releases_it_once(world: World) -> None:
    first, second, third = [await parent(world) for _ in range(3)]
    await world.admit(entering=[first, second, third])
    assert (await finish(world, first))["released"] == 1
    assert (await world.admit(ended=[first, first]))["released"] == 0
    assert await holders(world, "parent") == {second}


async def test_a_parent_needs_no_worker_and_no_place_in_a_window(world: World) -> None:
    await world.tx.execute("UPDATE worker SET draining = true")
    await world.limit("default", None, paused=True, scope="pool")
    identity = await parent(world)
    await world.admit(entering=[identity])
    assert await world.statuses([identity]) == ["running"]


async def test_a_parent_and_its_child_on_the_same_name_with_one_slot_do_not_deadlock(world: World) -> None:
    await world.limit(JOB, 1)
    above = await parent(world)
    await world.admit(entering=[above])
    below = await child(world, above, JOB)
    await world.admit(entering=[below])
    assert await world.statuses([above, below]) == ["running", "scheduled"]
    assert (await holders(world, "parent"), await holders(world, "leaf")) == ({above}, {below})
    await world.end(below)
    await finish(world, above)
    assert await holders(world, "parent") == await holders(world, "leaf") == set()


async def test_two_parents_whose_children_need_each_other_s_keys_both_come_to_their_end(world: World) -> None:
    for name in ("a", "b"):
        await world.limit(name, 1)
    above = {name: await parent(world, name) for name in ("a", "b")}
    await world.admit(entering=list(above.values()))
    assert await world.statuses(list(above.values())) == ["running"] * 2
    # Each needs what the other is named for, first one and then both.
    below = [await child(world, above["a"], "b"), await child(world, above["b"], "a")]
    below += [await child(world, above[name], "a", "b") for name in ("a", "b")]
    await world.admit(entering=below)
    for identity in below:
        assert await world.statuses([identity]) == ["scheduled"]
        await world.end(identity)
    for identity in above.values():
        assert (await finish(world, identity))["released"] == 1


async def test_a_parent_that_waits_can_be_cancelled_and_the_next_one_goes(world: World) -> None:
    first, second, third = [await parent(world) for _ in range(3)]
    await world.admit(entering=[first, second, third])
    row = await world.admit(decide={second: "cancelled"})
    assert row["decided"] == [second]
    await finish(world, first)
    assert await world.statuses([first, second, third]) == ["completed", "cancelled", "running"]


async def test_a_parent_that_runs_is_not_ended_over_the_heads_of_its_children(world: World) -> None:
    identity = await parent(world)
    await world.admit(entering=[identity])
    for target in ("requested", "abandoned"):
        assert (await world.admit(decide={identity: target}))["decided"] == []
    assert await world.statuses([identity]) == ["running"]
    for target in ("cancelled", "timed_out"):
        await world.admit(decide={identity: target})
        assert await world.statuses([identity]) == ["cancelling"]


async def test_an_execution_may_have_eight_keys_and_goes_when_the_last_of_them_has_room(world: World) -> None:
    names = [f"lock/{n}" for n in range(8)]
    for name in names:
        await world.limit(name, 0)
    above = fresh_id()
    identity = await child(world, above, *names)
    await world.admit(entering=[identity])
    for name in names:
        assert await world.statuses([identity]) == ["requested"]
        await world.limit(name, 1)
        await world.audit()
    assert await world.statuses([identity]) == ["scheduled"]
    assert [await holders(world, "leaf", name) for name in names] == [{identity}] * 8
