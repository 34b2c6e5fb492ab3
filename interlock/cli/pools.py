"""`interlock pools`: worker pools, how they stand, and pausing them."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli import output
from interlock.cli.screen import Watch, status_line, watched
from interlock.cli.session import Json, with_client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.client import Client
    from interlock.client.queue_records import PoolState

Name = Annotated[str, typer.Argument(metavar="NAME", help="A worker pool, such as default.")]


def show(ctx: typer.Context, *, watch: Watch = False, json: Json = False) -> None:
    """Show worker pools: who works, what is in flight, how many more are dispatched, who waits."""

    async def work(client: Client) -> None:
        if not watch:
            _print(await client.pools(), json=json)
        elif json:
            told: dict[str, PoolState] = {}
            await watched(client.pools, lambda found: _tell_changes(found, told), redraw=False)
        else:
            await watched(client.pools, lambda found: _print(found, json=False), redraw=True)

    with_client(ctx, work)


def _tell_changes(found: Sequence[PoolState], told: dict[str, PoolState]) -> None:
    for pool in found:
        if told.get(pool.name) != pool:
            output.json_line(pool)
        told[pool.name] = pool


def _print(found: Sequence[PoolState], *, json: bool) -> None:
    if json:
        output.document(found)
    elif not found:
        output.say("no pools yet: a worker makes one when it starts")
    else:
        columns = ("pool", "workers", "capacity", "running", "scheduled", "room", "waiting", "oldest", "")
        output.table(columns, [_row(pool) for pool in found])


def _row(pool: PoolState) -> tuple[object, ...]:
    counts = (pool.workers, pool.capacity, pool.running, pool.scheduled, pool.room, pool.waiting)
    words = ["paused"] if pool.paused else []
    words += ["no worker"] if pool.workers == 0 else []
    words += [f"{pool.draining} draining"] if pool.draining else []
    return (pool.name, *counts, output.between(pool.oldest_waiting, None), ", ".join(words))


def pause(
    ctx: typer.Context,
    name: Name,
    *,
    drain: Annotated[bool, typer.Option("--drain", help="Wait until nothing runs there any more.")] = False,
    json: Json = False,
) -> None:
    """Dispatch nothing more to a pool, and take back what no worker has taken yet.

    What runs goes on; --drain waits for its end.
    """

    async def work(client: Client) -> PoolState:
        pool = await client.pause_pool(name)
        if not drain:
            return pool
        with status_line() as show:
            try:
                await client.pool_drained(name, lambda left: show(f"pool {name} is paused; {left} still in flight"))
            except asyncio.CancelledError:
                output.say(f"pool {name} stays paused: `interlock pools resume {shlex.quote(name)}` lets it go on")
                raise
        return (await client.pools([name]))[0]

    _told(with_client(ctx, work), json=json)


def resume(ctx: typer.Context, name: Name, *, json: Json = False) -> None:
    """Dispatch to a paused pool again, at once."""
    _told(with_client(ctx, lambda client: client.resume_pool(name)), json=json)


def _told(pool: PoolState, *, json: bool) -> None:
    if json:
        output.document(pool)
        return
    state = "is paused" if pool.paused else "is open"
    output.line(f"pool {pool.name} {state}: running {pool.running}, scheduled {pool.scheduled}, waiting {pool.waiting}")
