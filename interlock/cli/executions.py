"""`interlock list` and `show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from interlock.cli import output
from interlock.cli.batch_view import progress
from interlock.cli.session import Id, Json, with_client
from interlock.client.ids import short
from interlock.contract.status import Status  # noqa: TC001 - Typer reads the annotation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from interlock.client import Client
    from interlock.client.batch_records import BatchState
    from interlock.client.records import Attempt, Execution, Move, Page, Summary

PLAN: Final = "$plan"
"""The key of the child that plans a batch, and the name of what runs there."""


def list_executions(
    ctx: typer.Context,
    *,
    status: Annotated[
        list[Status] | None, typer.Option(metavar="STATUS", help="Only this status; may be repeated.")
    ] = None,
    action: Annotated[str | None, typer.Option(metavar="NAME", help="Only this action.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="TEXT", help="Only with this tag.")] = None,
    partitions: Annotated[bool, typer.Option("--partitions", help="Also the partitions of batches.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="At most so many.")] = 20,
    cursor: Annotated[
        str | None, typer.Option(metavar="ID", help="Continue behind this id: the cursor of the page before.")
    ] = None,
    json: Json = False,
) -> None:
    """List executions, newest first; those that are partitions of a batch only with --partitions."""

    async def work(client: Client) -> Page:
        before = await client.find(cursor) if cursor else None
        return await client.list(
            status=status or (), action=action, tag=tag, roots=not partitions, limit=limit, cursor=before
        )

    page = with_client(ctx, work)
    if json:
        output.document(page)
        return
    if not page.items:
        filtered = " like that" + ("" if partitions else "; --partitions looks in batches, too")
        output.say("no executions" + (filtered if status or action or tag else " yet: `interlock run ACTION`"))
        return
    place = ("batch", "key") if partitions else ()
    columns = ("id", "status", "action", *place, "attempt", "requested", "took", "error")
    output.table(columns, [_row(each, partitions=partitions) for each in page.items])
    if page.cursor is not None:
        output.say(f"more: --cursor {page.cursor}")


def _row(each: Summary, *, partitions: bool) -> tuple[object, ...]:
    took = output.between(each.started_at, each.finished_at)
    problem = "" if each.error is None else str(each.error.get("message", ""))[:80]
    place = (each.parent_id and short(each.parent_id), None if each.child_key == PLAN else each.child_key)
    return (
        short(each.id),
        each.status,
        _named(each),
        *(place if partitions else ()),
        each.attempt,
        output.ago(each.requested_at),
        took,
        problem,
    )


def _named(each: Summary) -> str:
    """Return what runs: the action, the batch, or that this is the planning of one."""
    if each.action == PLAN:
        return "(planning)"
    return f"{each.action} (batch)" if each.kind == "batch" else each.action


def child_of(parent: UUID | None, key: str | None) -> dict[str, object]:
    """Return the field that tells whose child an execution is; none of a root."""
    if parent is None:
        return {}
    batch = f"batch {short(parent)}"
    return {"planning": f"of {batch}"} if key == PLAN else {"partition": f"{key} of {batch}"}


def show(ctx: typer.Context, execution: Id, *, json: Json = False) -> None:
    """Show everything about one execution: its fields, its moves with who and why, its attempts, result and error."""

    async def work(client: Client) -> tuple[Execution, Sequence[Move], Sequence[Attempt], BatchState | None]:
        found = await client.get(await client.find(execution))
        state = await client.batches.get(found.id) if found.kind == "batch" else None
        return found, await client.transitions(found.id), await client.attempts(found.id), state

    found, moves, attempts, state = with_client(ctx, work)
    if json:
        output.document({"execution": found, "transitions": moves, "attempts": attempts})
        return
    output.fields(_shown(found, state))
    output.heading("moves")
    output.table(
        ("move", "at", "from", "to", "attempt", "by", "why"),
        [(m.move, m.at, m.source, m.target, m.attempt, m.actor, m.reason) for m in moves],
    )
    if attempts:
        output.heading("attempts")
        output.table(
            ("attempt", "outcome", "took", "exit", "worker", "error"),
            [
                (
                    a.attempt,
                    a.outcome,
                    output.between(a.started_at, a.finished_at),
                    a.exit_code,
                    a.worker_id,
                    a.error_text,
                )
                for a in attempts
            ],
        )
    for name, value in (("params", found.params), ("result", found.result), ("error", found.error)):
        if value not in (None, {}):
            output.heading(name)
            output.line(output.pretty(value))


def _shown(found: Execution, state: BatchState | None) -> dict[str, object]:
    version = f" (version {found.action_version})" if found.action_version else ""
    values = {
        "id": found.id,
        "status": found.status,
        "batch" if state else "action": None if found.child_key == PLAN else f"{found.action}{version}",
        **child_of(found.parent_id, found.child_key),
        "superseded by": found.superseded_by and f"{short(found.superseded_by)}, which a restart made",
        "progress": state and f"{progress(state)}; `interlock batch show {short(found.id)}` tells more",
        "epoch": found.epoch if found.epoch > 1 else None,
        "attempt": found.attempt if state is None else None,
        "failures": found.failures or None,
        "losses": found.losses or None,
        "pool": found.pool,
        "priority": found.priority,
        "tags": ", ".join(found.tags) or None,
        "worker": found.worker_id,
        "requested": found.requested_at,
        "not before": found.not_before,
        "deadline": found.deadline,
        "scheduled": found.scheduled_at,
        "started": found.started_at,
        "finished": found.finished_at,
        "took": output.between(found.started_at, found.finished_at),
        "cancel reason": found.cancel_reason,
    }
    return {name: value for name, value in values.items() if value is not None}
