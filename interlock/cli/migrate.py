"""`interlock migrate`: the schema, forward only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

import typer

from interlock.adapters import migrations
from interlock.adapters.postgres import mapped_errors, open_pool
from interlock.cli import output
from interlock.cli.session import Json, database_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from interlock.adapters.postgres import Tx

T = TypeVar("T")
LONGEST_SECONDS: Final = 3600.0


def migrate(
    ctx: typer.Context,
    what: Annotated[
        Literal["status", "verify"] | None,
        typer.Argument(help="status: list the migrations; verify: may this version run on the schema?"),
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Bring the schema up to date. Runs that meet wait for each other; repeating it is harmless."""
    url = database_url(ctx)
    if what == "status":
        _status(url, json=json)
    elif what == "verify":
        asyncio.run(_on(url, migrations.verify))
        output.document({"verified": True}) if json else output.line("this version may run on the schema")
    else:
        applied = asyncio.run(_on(url, migrations.migrate))
        if json:
            output.document({"applied": applied})
        for name in () if json else applied:
            output.line(f"applied {name}")
        if not applied and not json:
            output.line("the schema is up to date")


def _status(url: str, *, json: bool) -> None:
    states = asyncio.run(_on(url, migrations.status))
    if json:
        output.document(states)
    else:
        output.table(
            ("migration", "state", "applied"), [(f"{s.number:04}_{s.name}", s.state, s.applied_at) for s in states]
        )


async def _on(url: str, work: Callable[[Tx], Awaitable[T]]) -> T:
    pool = await open_pool(url, application="interlock-migrate", size=1, hot=False, statement_seconds=LONGEST_SECONDS)
    try:
        with mapped_errors():
            async with pool.acquire() as connection:
                return await work(connection)
    finally:
        await pool.close()
