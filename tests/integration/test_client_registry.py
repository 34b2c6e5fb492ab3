"""Registering definitions: versions, live limits, withdrawal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from interlock.contract.definitions import Action
from interlock.contract.status import Status
from tests.factory import make_worker

if TYPE_CHECKING:
    import asyncpg

    from interlock.client import Client
    from interlock.client.records import Registered


def job(name: str = "job", **fields: object) -> Action:
    return Action.model_validate({"action": name, "command": ["true"], **fields})


async def registered(client: Client, name: str = "job") -> Registered:
    (found,) = [each for each in await client.actions_list() if each.name == name]
    return found


async def test_only_what_changed_gets_a_new_version(client: Client) -> None:
    first = await client.apply_actions([job(), job("other")])
    second = await client.apply_actions([job(), job("other", priority=3), job("third")])

    assert (first.added, first.changed, first.unchanged) == (("job", "other"), (), ())
    assert (second.added, second.changed, second.unchanged) == (("third",), ("other",), ("job",))
    assert [(each.name, each.version) for each in await client.actions_list()] == [
        ("job", 1),
        ("other", 2),
        ("third", 1),
    ]
    assert (await registered(client, "other")).action == job("other", priority=3)


async def test_a_live_limit_outlives_a_definition_that_stayed_as_it_was(
    client: Client, connection: asyncpg.Connection
) -> None:
    await client.apply_actions([job(limit=3)])
    assert (await registered(client)).limit == 3
    await connection.execute("""SELECT set_queue('leaf', 'action:job', '{"lim": 7, "paused": true}')""")

    assert (await client.apply_actions([job(limit=3)])).limits == {}
    assert (await client.apply_actions([job(limit=3, priority=1)])).limits == {}
    assert (await registered(client)).limit == 7

    assert (await client.apply_actions([job(limit=4)])).limits == {"action:job": 4}
    found = await registered(client)
    assert (found.limit, found.paused) == (4, True)
    assert (await client.apply_actions([job()])).limits == {"action:job": None}
    assert (await registered(client)).limit is None


async def test_a_raised_limit_admits_who_waited(client: Client, connection: asyncpg.Connection) -> None:
    await make_worker(connection)
    await client.apply_actions([job(limit=1)])
    answers = await client.submit([{"action": "job"}] * 3)
    ids = [answer.id for answer in answers if answer.id]
    assert await client.counts(ids) == {Status.SCHEDULED: 1, Status.REQUESTED: 2}

    await client.apply_actions([job(limit=2)])
    assert await client.counts(ids) == {Status.SCHEDULED: 2, Status.REQUESTED: 1}
    await client.apply_actions([job()])
    assert await client.counts(ids) == {Status.SCHEDULED: 3}
    assert (await client.examine()).violations == 0


async def test_pruning_withdraws_what_is_gone_and_applying_it_again_brings_it_back(client: Client) -> None:
    await client.apply_actions([job(), job("other")])
    assert (await client.apply_actions([job()])).withdrawn == ()
    assert (await client.apply_actions([job()], prune=True)).withdrawn == ("other",)
    assert (await client.apply_actions([job()], prune=True)).withdrawn == ()
    (refused,) = await client.submit([{"action": "other"}])
    assert refused.refused is not None
    assert "was withdrawn" in refused.refused

    assert (await client.apply_actions([job("other")])).added == ("other",)
    (accepted,) = await client.submit([{"action": "other"}])
    assert (accepted.refused, (await registered(client, "other")).version) == (None, 2)


async def test_appliers_that_meet_make_one_version(client: Client) -> None:
    applied = await asyncio.gather(*(client.apply_actions([job(limit=2)]) for _ in range(4)))
    assert sorted(len(each.added) for each in applied) == [0, 0, 0, 1]
    assert (await registered(client)).version == 1
