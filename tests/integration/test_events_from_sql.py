"""What the database writes into the outbox is what the contract says: each row is one message that decodes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from uuid import UUID

from interlock.contract import events
from interlock.contract.topology import Topology
from tests.world import ACTOR, request

if TYPE_CHECKING:
    from asyncpg import Record

    from tests.world import World

EXCHANGES = Topology().exchanges
WRITERS = {exchange.name.removeprefix("interlock."): exchange.writers for exchange in EXCHANGES}


async def outbox(world: World) -> list[tuple[Record, list[events.Event]]]:
    """Return every row with its events, and empty the outbox; no row may be unreadable or of the wrong role."""
    found = []
    for row in await world.tx.fetch("DELETE FROM outbox RETURNING *"):
        content_type = events.SINGLE if row["events"] == 1 else events.BATCH
        decoded, unusable = events.decode(row["body"].encode(), content_type)
        assert unusable == []
        assert len(decoded) == row["events"]
        assert row["role"] in WRITERS[row["exchange"]]
        found.append((row, decoded))
    return sorted(found, key=lambda pair: pair[0]["id"])


async def drained(world: World) -> None:
    """Forget what the stage itself published; the audit counts only what is there, so ends must be forgotten too."""
    await world.tx.execute("DELETE FROM outbox")


async def put_back(world: World) -> None:
    """Count again for the audit what a test took out."""
    await world.tx.execute(
        "INSERT INTO outbox (role, exchange, routing_key, events, body)"
        " SELECT 'worker', 'completions', 'x', count(*), '' FROM execution_transition WHERE is_terminal(target)"
    )


def routes(found: list[tuple[Record, list[events.Event]]]) -> Counter[tuple[str, str, str]]:
    return Counter((row["role"], row["exchange"], row["routing_key"]) for row, _ in found)


async def test_an_admitted_execution_is_told_to_its_pool_with_its_attempt(world: World) -> None:
    (identity,) = await world.submit()
    ((row, (event,)),) = await outbox(world)
    assert (row["role"], row["exchange"], row["routing_key"]) == ("executor", "dispatch", "default")
    assert isinstance(event, events.Scheduled)
    assert (event.data.id, event.data.attempt, event.source, event.subject) == (identity, 1, ACTOR, str(identity))
    assert event.id == f"{identity}/1/1"


async def test_what_only_waits_is_told_to_nobody(world: World) -> None:
    await world.limit("action:job", 0)
    await world.submit(3)
    assert await outbox(world) == []


async def test_each_move_of_a_worker_is_told_once_and_its_end_also_as_a_completion(world: World) -> None:
    (identity,) = await world.submit()
    await drained(world)
    await world.run(world.hand, identity)
    found = await outbox(world)
    assert routes(found) == {
        ("worker", "status", "execution.status_changed.running.leaf"): 1,
        ("worker", "status", "execution.status_changed.completed.leaf"): 1,
        ("worker", "completions", "execution.completed.completed"): 1,
    }
    told = {event.id: event for _, batch in found for event in batch}
    assert told.keys() == {f"{identity}/1/2", f"{identity}/1/3", f"{identity}/1/completed"}
    started, ended = told[f"{identity}/1/2"], told[f"{identity}/1/completed"]
    assert isinstance(started, events.StatusChanged)
    assert (started.data.source, started.data.target, started.data.action) == ("scheduled", "running", "job")
    assert isinstance(ended, events.Completed)
    assert (ended.data.status, ended.data.attempt, ended.data.epoch) == ("completed", 1, 1)
    finished = await world.tx.fetchval("SELECT iso_utc(finished_at) FROM execution WHERE id = $1", identity)
    assert ended.data.finished_at == finished
    await put_back(world)


async def test_an_end_that_the_executor_decides_is_completed_by_a_worker_who_is_told_to_publish(world: World) -> None:
    await world.limit("action:job", 0)
    (identity,) = await world.submit()
    row = await world.admit(decide={identity: "cancelled"})
    found = await outbox(world)
    assert routes(found) == {
        ("executor", "status", "execution.status_changed.cancelled.leaf"): 1,
        ("worker", "completions", "execution.completed.cancelled"): 1,
        ("executor", "relay", "worker"): 1,
    }
    # The caller gets the messages of its own role only, and only those are claimed for its fast path.
    assert {message["exchange"] for message in row["messages"]} == {"status", "relay"}
    assert {message["exchange"]: message["claimed_until"] is None for message, _ in found} == {
        "status": False,
        "relay": False,
        "completions": True,
    }
    await put_back(world)


async def test_a_refused_request_is_told_as_a_move_from_nowhere(world: World) -> None:
    data = request("none")
    await world.accept(data)
    changed = [event for _, batch in await outbox(world) for event in batch if isinstance(event, events.StatusChanged)]
    assert [(str(event.data.id), event.data.source, event.data.target) for event in changed] == [
        (data["id"], None, "failed")
    ]
    await put_back(world)


async def test_a_cancel_is_sent_to_the_worker_that_holds_the_execution(world: World) -> None:
    (identity,) = await world.submit()
    await world.claim(world.hand, identity)
    await drained(world)
    await world.admit(decide={identity: "cancelled"})
    found = await outbox(world)
    assert routes(found) == {
        ("executor", "status", "execution.status_changed.cancelling.leaf"): 1,
        ("executor", "control", str(world.hand)): 1,
    }
    (cancel,) = (event for _, batch in found for event in batch if isinstance(event, events.Cancel))
    assert (cancel.data.id, cancel.data.attempt) == (identity, 1)


async def test_a_retry_is_told_as_back_to_requested_and_the_next_attempt_to_the_pool(world: World) -> None:
    (identity,) = await world.submit()
    await world.claim(world.hand, identity)
    await world.finish(world.hand, identity, "requested")
    await drained(world)
    await world.admit(entering=[identity])
    ((row, (event,)),) = await outbox(world)
    assert (row["exchange"], event.id) == ("dispatch", f"{identity}/1/4")
    assert isinstance(event, events.Scheduled)
    assert event.data.attempt == 2


async def test_dispatch_is_split_evenly_over_the_live_workers_and_holds_at_most_100_ids(world: World) -> None:
    for _ in range(2):
        await world.worker()
    await world.worker("elsewhere")
    await world.submit(9)
    assert [row["events"] for row, _ in await outbox(world)] == [3, 3, 3]
    await world.tx.execute("UPDATE worker SET capacity = 1000")
    ids = await world.submit(450)
    found = await outbox(world)
    assert sorted(row["events"] for row, _ in found) == [90] * 5
    assert sorted(event.data.id for _, batch in found for event in batch if isinstance(event, events.Scheduled)) == ids


async def test_of_a_mixed_flush_dispatch_is_even_and_only_what_ended_is_completed(world: World) -> None:
    await world.worker()
    mixed = [request("none" if n % 2 else "job") for n in range(20)]
    await world.accept(*mixed)
    found = await outbox(world)
    assert [row["events"] for row, _ in found if row["exchange"] == "dispatch"] == [5, 5]
    assert [row["events"] for row, _ in found if row["exchange"] == "completions"] == [10]
    await put_back(world)


async def test_no_message_holds_more_events_than_a_reader_takes(world: World) -> None:
    refused = [request("none") for _ in range(700)]
    ids = [UUID(data["id"]) for data in refused]
    await world.accept(*refused)
    found = await outbox(world)
    for kind in (events.StatusChanged, events.Completed):
        told = [event.data.id for _, batch in found for event in batch if isinstance(event, kind)]
        assert sorted(told) == ids
    assert max(row["events"] for row, _ in found) == events.MAX_EVENTS
    await put_back(world)


async def test_odd_names_are_escaped(world: World) -> None:
    odd = 'quo"te\\back\u2028ü'
    await world.accept(request(odd))
    (event,) = (event for _, batch in await outbox(world) for event in batch if isinstance(event, events.Completed))
    assert event.data.action == 'quo"te\\back\ufffdü'
    await put_back(world)
