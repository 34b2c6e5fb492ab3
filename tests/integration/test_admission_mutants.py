"""Each guard of admission is needed: with the guard broken in the database, the named test fails.

A mutant is one replacement in the source of one database function. The test that must catch it runs as it stands, on a
database of its own in which the function is the mutant.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from interlock.adapters.migrations import migrate
from tests.world import opened

if TYPE_CHECKING:
    from collections.abc import Iterator

MIGRATIONS = Path(__file__).parent.parent.parent / "migrations"


class Mutant(NamedTuple):
    """What is broken: `old` becomes `new` in `function`; `caught_by` is module:test below tests.integration.

    `arguments` are those that the test takes behind the world.
    """

    function: str
    old: str
    new: str
    caught_by: str
    arguments: tuple[object, ...] = ()


MUTANTS = {
    "keys are read without their locks": Mutant(
        "admit",
        "ORDER BY id FOR NO KEY UPDATE);",
        "ORDER BY id);",
        "test_admission_races:test_two_executors_that_admit_on_one_key_hand_out_each_slot_once",
    ),
    "a release believes the message": Mutant(
        "release_slots",
        "AND (e.status = 'requested' OR is_terminal(e.status))",
        "",
        "test_admission:test_a_completion_of_what_has_not_ended_releases_nothing",
        ("running",),
    ),
    "arrivals do not look again whether a key was limited": Mutant(
        "accept",
        "AND q.gated AND (q.scope <> 'pool' OR q.paused)) THEN",
        "AND false) THEN",
        "test_admission_races:test_an_acceptance_that_meets_a_first_limit_is_done_again_and_obeys_it",
    ),
    "a first limit forgets what is in flight": Mutant(
        "set_queue",
        "IF p_scope = 'leaf' THEN",
        "IF false THEN",
        "test_admission_races:test_a_first_limit_waits_for_an_open_acceptance_and_counts_what_it_accepted",
    ),
    "a decision does not wait for the row": Mutant(
        "decide",
        "PERFORM 1 FROM execution e WHERE e.id = ANY(p_ids) ORDER BY e.id FOR UPDATE;",
        "",
        "test_admission_races:test_a_cancel_that_waited_for_a_claim_reaches_what_runs",
    ),
    "a live lease is declared lost": Mutant(
        "decide",
        "NOT lease_lives(e.worker_id) AS lost",
        "true AS lost",
        "test_admission_races:test_a_lease_that_was_renewed_while_the_reaper_waited_is_alive",
    ),
    "room that nobody looked at is not owed": Mutant(
        "admit_locked",
        "a.lane AND owes[u.n] AS owed",
        "false AS owed",
        "test_admission_lanes:test_a_chunk_is_never_exceeded_and_what_is_left_is_owed",
    ),
    "no limit is a limit of nothing": Mutant(
        "admit_locked",
        "CASE WHEN q.lim IS NULL THEN unlimited",
        "CASE WHEN q.lim IS NULL THEN 0",
        "test_admission:test_limit_zero_admits_none_and_no_limit_admits_all",
    ),
    "a waiter that a cancel took stays in its lane": Mutant(
        "leave_lanes",
        "DELETE FROM waiting w USING unnest(p_moves) m WHERE w.lane_id = m.lane_id AND w.seq = m.seq;",
        "",
        "test_admission_races:test_a_cancel_and_an_admission_of_the_same_execution_exclude_each_other",
    ),
}


def source(function: str) -> str:
    """Return the statement that makes a function, as one that replaces it."""
    for path in sorted(MIGRATIONS.glob("*.sql")):
        found = re.search(
            rf"^CREATE FUNCTION {function}\(.*?^END \$\$;", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
        if found:
            return found[0].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
    raise AssertionError(f"no migration makes {function}")


@pytest.fixture(scope="session")
def mutant_url(server_url: str) -> Iterator[str]:
    """The address of a migrated database in which functions may be broken."""
    name = f"mutant_{secrets.token_hex(6)}"
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))

    async def execute(statement: str) -> None:
        connection = await asyncpg.connect(server_url)
        await connection.execute(statement)
        await connection.close()

    async def prepare() -> None:
        await execute(f'CREATE DATABASE "{name}"')
        connection = await asyncpg.connect(url)
        await migrate(connection)
        await connection.close()

    asyncio.run(prepare())
    yield url
    asyncio.run(execute(f'DROP DATABASE "{name}" WITH (FORCE)'))


async def fails(url: str, mutant: Mutant) -> bool:
    """Whether a test fails on this database, the audit behind it included."""
    module, _, name = mutant.caught_by.partition(":")
    test = getattr(importlib.import_module(f"tests.integration.{module}"), name)
    async with opened(url) as world:
        await world.empty()
        await world.register()
        world.hand = await world.worker()
        try:
            async with asyncio.timeout(30):
                await test(world, *mutant.arguments)
                await world.audit()
        except (AssertionError, ExceptionGroup, asyncpg.PostgresError, pytest.fail.Exception):
            return True
        return False


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_mutant_is_caught_by_the_test_named_for_it(mutant_url: str, name: str) -> None:
    mutant = MUTANTS[name]
    sound = source(mutant.function)
    assert sound.count(mutant.old) == 1, "the source of the guard has changed: change the mutant, too"
    connection = await asyncpg.connect(mutant_url)
    try:
        assert not await fails(mutant_url, mutant), "the test must pass while the guard stands"
        await connection.execute(sound.replace(mutant.old, mutant.new))
        assert await fails(mutant_url, mutant), "nobody noticed that the guard is gone"
    finally:
        await connection.execute(sound)
        await connection.close()
