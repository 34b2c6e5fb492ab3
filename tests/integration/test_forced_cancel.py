"""A forced cancel as the database keeps it: once, for what is being cancelled, and told to the worker that runs it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from executor.handlers.cancel_requested import CancelRequested
from interlock.acceptance.store import force
from interlock.client import Client
from interlock.client.cancels import CANCELLABLE, Selection
from interlock.contract import events
from interlock.contract.status import Status
from tests.cli import Interlock, interlock_on
from tests.eventually import eventually
from tests.world import ACTOR, fresh_id
from worker import store

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World

LEASE = 25.0


@pytest.fixture
def interlock(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Interlock:
    """Run one command on the stage; returns its exit code and what it said."""
    return interlock_on(world.url, monkeypatch, capsys)


async def forced(world: World) -> set[UUID]:
    return {row[0] for row in await world.tx.fetch("SELECT execution_id FROM in_flight WHERE forced")}


async def told(world: World) -> list[tuple[str, str]]:
    """Return to whom the word was sent to end what without its grace, in the order of sending."""
    rows = await world.tx.fetch("SELECT routing_key, body FROM outbox WHERE exchange = 'control' ORDER BY id")
    found = []
    for row in rows:
        content_type = events.BATCH if row["body"].startswith("[") else events.SINGLE
        found += [(row["routing_key"], event) for event in events.decode(row["body"].encode(), content_type)[0]]
    return [(key, str(event.data.id)) for key, event in found if isinstance(event, events.Cancel) and event.data.force]


async def renewed(world: World, *held: UUID) -> tuple[set[UUID], set[UUID]]:
    """Renew the lease of who holds these; return what is cancelled, and what of that without its grace."""
    answer = await store.renew(world.tx, world.hand, LEASE, [(identity, 1) for identity in held])
    return set(answer["cancelled"]), set(answer["forced"])


async def test_a_forced_cancel_takes_the_grace_of_what_runs_and_ends_what_waits(world: World) -> None:
    running, waiting, ended = await world.submit(3)
    await world.run(world.hand, ended)
    await world.claim(world.hand, running)
    async with Client.connect(world.url) as client:
        outcomes = await client.cancel([running, waiting, ended], forced=True)
    assert [(each.status, each.moved, each.forced) for each in outcomes] == [
        (Status.CANCELLING, True, True),
        (Status.CANCELLED, True, False),
        (Status.COMPLETED, False, False),
    ]
    assert await forced(world) == {running}
    assert await told(world) == [(str(world.hand), str(running))]
    assert await renewed(world, running) == ({running}, {running})


async def test_what_was_told_to_stop_before_is_forced_once(world: World) -> None:
    first, second = await world.submit(2)
    await world.claim(world.hand, first, second)
    async with Client.connect(world.url) as client:
        await client.cancel([first, second])
        assert await renewed(world, first, second) == ({first, second}, set())
        answers = [(await client.cancel([first], forced=True))[0] for _ in range(2)]
    assert [(each.moved, each.forced) for each in answers] == [(False, True), (False, False)]
    assert await told(world) == [(str(world.hand), str(first))]
    assert await renewed(world, first, second) == ({first, second}, {first})


async def test_only_what_is_being_cancelled_loses_its_grace(world: World) -> None:
    running, scheduled = await world.submit(2)
    await world.claim(world.hand, running)
    assert await force(world.tx, [running, scheduled, fresh_id()], ACTOR) == frozenset()
    assert (await forced(world), await told(world)) == (set(), [])


@pytest.mark.parametrize(
    ("statuses", "hurried"),
    [(CANCELLABLE, 1), ((*CANCELLABLE, Status.CANCELLING), 2), ((Status.CANCELLING,), 1)],
)
async def test_by_selection_only_what_it_means_is_forced(
    world: World, statuses: tuple[Status, ...], hurried: int
) -> None:
    running, stopping = await world.submit(2)
    await world.claim(world.hand, running, stopping)
    async with Client.connect(world.url) as client:
        await client.cancel([stopping])
        selection = Selection(statuses=statuses)
        preview = await client.preview(selection)
        assert await client.cancel_all(selection, preview.until, forced=True) == hurried
    wanted = {running} if Status.CANCELLING not in statuses else {stopping} | ({running} if hurried == 2 else set())
    assert await forced(world) == wanted


async def test_what_began_to_stop_meanwhile_is_not_forced_by_a_selection_that_does_not_mean_it(world: World) -> None:
    (identity,) = await world.submit()
    await world.claim(world.hand, identity)
    selection = Selection(statuses=(Status.RUNNING,))
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with Client.connect(world.url) as client, world.another() as other:
        preview = await client.preview(selection)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group, other.tx.transaction():
            await other.admit(decide={identity: "cancelled"})
            cancelling = group.create_task(client.cancel_all(selection, preview.until, forced=True))
            await eventually(lambda: world.tx.fetchval(blocked))
        assert cancelling.result() == 0
    assert (await world.statuses([identity]), await forced(world)) == (["cancelling"], set())


async def test_a_message_can_force_a_cancel(world: World) -> None:
    gentle, rough = await world.submit(2)
    await world.claim(world.hand, gentle, rough)
    batch = [
        events.CancelRequested(
            specversion="1.0",
            id=str(identity),
            source="/shop",
            type="execution.cancel_requested",
            data=events.CancelRequestedData.model_validate({"id": identity, **more}),
        )
        for identity, more in ((gentle, {}), (rough, {"force": True}))
    ]
    async with world.tx.transaction():
        await CancelRequested(actor=ACTOR)(world.tx, batch)
    assert await world.statuses([gentle, rough]) == ["cancelling", "cancelling"]
    assert await forced(world) == {rough}


async def test_the_command_forces_by_id_and_by_selection_and_says_so(world: World, interlock: Interlock) -> None:
    first, second = await world.submit(2)
    await world.claim(world.hand, first, second)
    await interlock("cancel", str(first))
    said = await interlock("cancel", str(first), "--force")
    assert (said.code, said.out) == (0, f"{str(first)[-8:]} is cancelling already, now without its grace\n")
    refused = await interlock("cancel", "--status", "cancelling", "--yes")
    assert (refused.code, "what is cancelling cannot be cancelled" in refused.err) == (2, True)
    said = await interlock("cancel", "--action", "job", "--force", "--yes")
    assert (said.code, said.out.splitlines()[-1]) == (0, "cancelled 1 of 2 executions")
    assert await forced(world) == {first, second}
    again = await interlock("cancel", "--status", "cancelling", "--force", "--yes", "--json")
    assert (again.code, json.loads(again.out)["cancelled"]) == (0, 0)
