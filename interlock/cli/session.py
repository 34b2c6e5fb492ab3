"""What a command needs before it can begin: the settings, and a client for as long as it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from interlock import settings
from interlock.adapters import faults, logs
from interlock.client import Client
from interlock.contract.errors import Misconfigured
from interlock.local.stack import FILE, Endpoints

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")
STATE = Path(".run")
"""Where `interlock up` keeps its servers unless INTERLOCK_STATE says otherwise."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id, or any unique beginning or end of it.")]


def settings_of(ctx: typer.Context) -> settings.Client:
    """Read the settings. Raises Misconfigured, one line per problem."""
    return settings.load(settings.Client, ctx.obj)


def database_url(ctx: typer.Context) -> str:
    """Return the database's address: the one set, or that of the stack that `interlock up` runs here.

    Raises Misconfigured when there is neither.
    """
    given = settings_of(ctx)
    if given.database_url is not None:
        return given.database_url.get_secret_value()
    state = given.state or STATE
    if (state / FILE).exists():
        return Endpoints.read(state).database_url
    message = (
        f"INTERLOCK_DATABASE_URL: not set, or INTERLOCK_DATABASE_URL_FILE, and no `interlock up` runs in {state} "
        "(example: INTERLOCK_DATABASE_URL=postgresql://interlock@localhost/interlock)"
    )
    raise Misconfigured(message)


def places_of_actions(
    ctx: typer.Context, folder: Path | None, modules: Sequence[str] | None
) -> tuple[Path | None, Sequence[str]]:
    """Return where definitions are: a folder, and modules of decorated functions; those given, or the settings'.

    Raises Misconfigured when there is neither.
    """
    given = settings_of(ctx)
    folder, modules = folder or given.actions, modules or given.functions
    if folder is None and not modules:
        raise Misconfigured(
            "INTERLOCK_ACTIONS: not set; name the folder of action definitions, there or as an argument, or a module "
            "of decorated functions with --module"
        )
    return folder, modules


def with_client(ctx: typer.Context, work: Callable[[Client], Awaitable[T]], *, statement_seconds: float = 30.0) -> T:
    """Run `work` with a connected client, and return what it returns."""
    url = database_url(ctx)
    if armed := settings_of(ctx).faults:
        logs.configure(None, "warning", role="client")
        faults.arm(armed)

    async def session() -> T:
        async with Client.connect(url, statement_seconds=statement_seconds) as client:
            return await work(client)

    return asyncio.run(session())
