"""`interlock list` and `show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli import output
from interlock.cli.session import Id, Json, with_client
from interlock.client.ids import short
from interlock.contract.status import Status  # noqa: TC001 - Typer reads the annotation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.client import Client
    from interlock.client.records import Attempt, Execution, Move, Page, Summary


def list_executions(
    ctx: typer.Context,
    *,
    status: Annotated[
        list[Status] | None, typer.Option(metavar="STATUS", help="Only this status; may be repeated.")
    ] = None,
    action: Annotated[str | None, typer.Option(metavar="NAME", help="Only this action.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="TEXT", help="Only with this tag.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="At most so many.")] = 20,
    cursor: Annotated[
        str | None, typer.Option(metavar="ID", help="Continue behind this id: the cursor of the page before.")
    ] = None,
    json: Json = False,
) -> None:
    """List executions, newest first."""

    async def work(client: Client) -> Page:
        before = await client.find(cursor) if cursor else None
        return await client.list(status=status or (), action=action, tag=tag, limit=limit, cursor=before)

    page = with_client(ctx, work)
    if json:
        output.document(page)
        return
    if not page.items:
        output.say("no executions" + (" like that" if status or action or tag else " yet: `interlock run ACTION`"))
        return
    output.table(("id", "status", "action", "attempt", "requested", "took", "error"), [_row(s) for s in page.items])
    if page.cursor is not None:
        output.say(f"more: --cursor {page.cursor}")


def _row(each: Summary) -> tuple[object, ...]:
    took = output.between(each.started_at, each.finished_at)
    problem = "" if each.error is None else str(each.error.get("message", ""))[:80]
    return short(each.id), each.status, each.action, each.attempt, output.ago(each.requested_at), took, problem


def show(ctx: typer.Context, execution: Id, *, json: Json = False) -> None:
    """Show everything about one execution: its fields, its moves with who and why, its attempts, result and error."""

    async def work(client: Client) -> tuple[Execution, Sequence[Move], Sequence[Attempt]]:
        identity = await client.find(execution)
        return await client.get(identity), await client.transitions(identity), await client.attempts(identity)

    found, moves, attempts = with_client(ctx, work)
    if json:
        output.document({"execution": found, "transitions": moves, "attempts": attempts})
        return
    output.fields(_shown(found))
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


def _shown(found: Execution) -> dict[str, object]:
    values = {
        "id": found.id,
        "status": found.status,
        "action": f"{found.action} (version {found.action_version})" if found.action_version else found.action,
        "attempt": found.attempt,
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
