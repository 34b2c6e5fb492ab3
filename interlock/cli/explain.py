"""`interlock explain`: why one execution is where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer  # noqa: TC002 - Typer reads the annotation

from interlock.cli import output
from interlock.cli.executions import PLAN, child_of
from interlock.cli.screen import Watch, watched
from interlock.cli.session import Id, Json, with_client
from interlock.client.ids import short
from interlock.client.queue_records import Reason

if TYPE_CHECKING:
    from interlock.client import Client
    from interlock.client.queue_records import Explanation, Holder


def explain(ctx: typer.Context, execution: Id, *, watch: Watch = False, json: Json = False) -> None:
    """Say why an execution is where it is: what it waits for, who goes before it, who holds what it needs."""

    async def work(client: Client) -> None:
        identity = await client.find(execution)

        async def look() -> Explanation:
            return await client.explain(identity)

        if not watch:
            found = await look()
            output.document(found) if json else _print(found)
        else:
            show = output.json_line if json else _print
            await watched(look, show, redraw=not json, ends=lambda found: found.reason is Reason.ENDED)

    with_client(ctx, work)


def _print(found: Explanation) -> None:
    what = "the planning" if found.child_key == PLAN else found.action
    output.line(f"{short(found.id)} {what} is {found.status}: {found.sentence}")
    output.line("")
    output.fields({name: value for name, value in _facts(found).items() if value is not None})
    if found.holders:
        output.heading(f"who holds {found.key.name if found.key else 'a slot'}")
        columns = ("id", "action", "status", "since", "worker", "lease ends")
        output.table(columns, [_row(holder) for holder in found.holders])
        if (more := found.holders_total - len(found.holders)) > 0:
            output.line(f"and {more} more")


def _facts(found: Explanation) -> dict[str, object]:
    key, pool = found.key, found.pool
    return {
        **child_of(found.parent_id, found.child_key),
        "reason": found.reason,
        "since": output.ago(found.since),
        "until": found.until and f"{output.ago(found.until)}",
        "position": found.position and f"{found.position} in its lane",
        "ahead": found.ahead,
        "key": key and key.name,
        "limit": key and ("none" if key.limit is None else key.limit),
        "rate": key and key.rate,
        "active": key and key.active,
        "also full": ", ".join(found.also_full) or None,
        "kept for": found.first and short(found.first),
        "pool": pool and pool.name,
        "workers": pool and f"{pool.workers}" + (f", and {pool.draining} draining" if pool.draining else ""),
        "capacity": pool and pool.capacity,
        "in flight": pool and f"{pool.running} running, {pool.scheduled} scheduled",
        "worker": found.worker_id,
    }


def _row(holder: Holder) -> tuple[object, ...]:
    return (
        short(holder.id),
        holder.action,
        holder.status,
        output.ago(holder.since),
        holder.worker_id,
        output.ago(holder.lease_until),
    )
