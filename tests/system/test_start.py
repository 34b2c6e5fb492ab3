"""What keeps a daemon from starting: the exit code, and the one line that says what to do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from interlock.local.children import free_port
from tests.system.deployment import LOUD

if TYPE_CHECKING:
    from interlock.local.daemons import Role
    from tests.system.deployment import Deployment


async def refused(deployment: Deployment, code: int, **env: str) -> str:
    """Start two executors and a worker; all must exit with `code` and the same one line of error, which is returned."""
    roles: tuple[Role, ...] = ("executor", "executor", "worker")
    ends = await asyncio.gather(*(deployment.exit_of(role, **env) for role in roles))
    told = []
    for exit_code, lines in ends:
        errors = [line["event"] for line in lines if line["level"] in LOUD]
        assert (exit_code, len(errors)) == (code, 1), lines
        told.append(str(errors[0]))
    assert told == [told[0]] * 3
    assert "\n" not in told[0]
    return told[0]


async def test_without_a_database_a_daemon_exits_69_and_names_where_it_looked(deployment: Deployment) -> None:
    port = free_port()
    deployment.endpoints = replace(
        deployment.endpoints, database_url=f"postgresql://someone:hidden@127.0.0.1:{port}/interlock"
    )
    told = await refused(deployment, 69)
    assert told.startswith(f"PostgreSQL at 127.0.0.1:{port}/interlock cannot be reached")
    assert told.endswith("check INTERLOCK_DATABASE_URL and the server")
    assert "hidden" not in told


async def test_without_a_broker_a_daemon_exits_69_and_names_where_it_looked(deployment: Deployment) -> None:
    port = free_port()
    gone = f"amqp://someone:hidden@127.0.0.1:{port}/"
    deployment.endpoints = replace(deployment.endpoints, executor=gone, worker=gone)
    told = await refused(deployment, 69)
    assert told.startswith(f"RabbitMQ at 127.0.0.1:{port} cannot be reached")
    assert told.endswith("check INTERLOCK_AMQP_URL and the broker")
    assert "hidden" not in told


async def test_on_an_empty_database_a_daemon_exits_78_and_asks_for_the_migration(deployment: Deployment) -> None:
    await deployment.connection.execute("DROP TABLE migration")
    assert "the schema is at 0000" in (told := await refused(deployment, 78))
    assert "interlock migrate" in told


async def test_on_an_older_schema_a_daemon_exits_78_and_asks_for_the_migration(deployment: Deployment) -> None:
    await deployment.connection.execute("DELETE FROM migration WHERE number > 1")
    told = await refused(deployment, 78)
    assert "the schema is at 0001" in told
    assert "interlock migrate" in told


async def test_on_a_schema_that_needs_newer_daemons_a_daemon_exits_78(deployment: Deployment) -> None:
    await deployment.connection.execute(
        "INSERT INTO migration (number, name, checksum, min_daemon) VALUES (9999, 'later', 'x', '77.1.0')"
    )
    told = await refused(deployment, 78)
    assert "77.1.0 or later" in told
    assert "upgrade" in told


async def test_a_misspelt_setting_stops_the_start_with_78_and_the_nearest_known_name(deployment: Deployment) -> None:
    told = await refused(deployment, 78, CONCURENCY="3")
    assert told.startswith("INTERLOCK_CONCURENCY: unknown")
    assert "did you mean INTERLOCK_CONCURRENCY?" in told


async def test_a_wrong_password_stops_the_start_and_is_not_told(deployment: Deployment) -> None:
    login, _, rest = deployment.endpoints.worker.rpartition("@")
    wrong = f"{login.rpartition(':')[0]}:hidden@{rest}"
    deployment.endpoints = replace(deployment.endpoints, executor=wrong, worker=wrong)
    told = await refused(deployment, 69)
    assert told.startswith("RabbitMQ at ")
    assert "hidden" not in told
