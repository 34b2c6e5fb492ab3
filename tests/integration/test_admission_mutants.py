"""Each guard of admission is needed: with the guard broken in the database, the named test fails.

A mutant is one replacement in the source of one database function. The test that must catch it runs as it stands, on a
database of its own in which the function is the mutant.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.databases import MIGRATIONS
from tests.mutants import MUTANTS, Mutant
from tests.world import opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases import Databases


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
def mutant_url(databases: Databases) -> Iterator[str]:
    """The address of a migrated database in which functions may be broken."""
    url = asyncio.run(databases.take())
    yield url
    asyncio.run(databases.give_back(url))


async def fails(url: str, mutant: Mutant) -> bool:
    """Whether a test fails on this database, the audit behind it included."""
    module, _, name = mutant.caught_by.partition(":")
    tests = importlib.import_module(f"tests.integration.{module}")
    async with opened(url) as world:
        await world.empty()
        await world.register()
        world.hand = await world.worker()
        try:
            async with asyncio.timeout(30):
                if prepare := getattr(tests, "prepare", None):
                    await prepare(world)
                await getattr(tests, name)(world, *mutant.arguments)
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
