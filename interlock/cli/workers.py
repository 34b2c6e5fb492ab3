"""`interlock workers`: the workers that live, and letting them drain."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli import output
from interlock.cli.screen import Watch, status_line, watched
from interlock.cli.session import Json, with_client
from interlock.client.ids import short
from interlock.client.workers import told

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from interlock.client import Client
    from interlock.client.workers import WorkerState

COLUMNS = ("id", "pool", "host", "pid", "containment", "running", "capacity", "lease", "started", "")
Pool = Annotated[str | None, typer.Option(metavar="NAME", help="Only of this pool.")]
Host = Annotated[str | None, typer.Option(metavar="NAME", help="Only on this host.")]


def list_workers(
    ctx: typer.Context, *, pool: Pool = None, host: Host = None, watch: Watch = False, json: Json = False
) -> None:
    """List the workers that live: where, how contained, what they run, and what is left of their leases."""

    async def work(client: Client) -> None:
        async def look() -> Sequence[WorkerState]:
            return await client.workers.list(pool=pool, host=host)

        if not watch:
            _print(await look(), json=json)
        elif json:
            known: dict[UUID, object] = {}
            await watched(look, lambda found: _tell_changes(found, known), redraw=False)
        else:
            await watched(look, lambda found: _print(found, json=False), redraw=True)

    with_client(ctx, work)


def _tell_changes(found: Sequence[WorkerState], known: dict[UUID, object]) -> None:
    # A lease runs down all the time, which is no news as long as it lives.
    for each in found:
        now = (each.running, each.draining, each.is_lost)
        if known.get(each.id) != now:
            output.json_line(each)
        known[each.id] = now


def _print(found: Sequence[WorkerState], *, json: bool) -> None:
    if json:
        output.document(found)
    elif not found:
        output.say("no such worker lives: `interlock-worker` starts one")
    else:
        output.table(COLUMNS, [_row(each) for each in found])


def _row(each: WorkerState) -> tuple[object, ...]:
    lease = f"ended {output.duration(-each.lease_left)} ago" if each.is_lost else output.duration(each.lease_left)
    words = (["draining"] if each.draining else []) + (["lost"] if each.is_lost else [])
    place = (short(each.id), each.pool, each.host, each.pid, each.containment, each.running, each.capacity)
    return (*place, lease, output.ago(each.started_at), ", ".join(words))


def drain(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID…]", help="Workers, by a unique beginning or end of their ids.")
    ] = None,
    *,
    pool: Pool = None,
    host: Host = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until they have ended.")] = False,
    json: Json = False,
) -> None:
    """Let workers take nothing more, finish what they run or hand it back, and end with exit code 0.

    They hear of it with their next renewal, a few seconds later. What they hand back runs elsewhere and is not counted
    as a failure. With --wait the exit code is 1 if one of them was lost instead.
    """
    if bool(ids) == bool(pool or host):
        raise typer.BadParameter("say which: ids, or --pool or --host")

    async def work(client: Client) -> bool:
        chosen = await client.workers.select(ids or (), pool=pool, host=host)
        await client.workers.drain([each.id for each in chosen])
        if not json:
            for each in chosen:
                output.line(f"{told(each)} {'drains already' if each.draining else 'drains'}: {each.running} running")
        lost = await _ended(client, chosen) if wait else frozenset()
        if json:
            output.document([{**asdict(each), "draining": True, "lost": each.id in lost} for each in chosen])
        for each in chosen:
            if each.id in lost:
                output.say(f"{told(each)} was lost before it had drained; what it held runs again elsewhere")
        return not lost

    if not with_client(ctx, work):
        raise typer.Exit(1)


async def _ended(client: Client, chosen: Sequence[WorkerState]) -> frozenset[UUID]:
    with status_line() as show:
        try:
            return await client.workers.drained(
                [each.id for each in chosen], lambda left, running: show(f"{left} drain; {running} still running there")
            )
        except asyncio.CancelledError:
            output.say("they go on draining")
            raise
