"""`interlock cancel`: some executions by their ids, or all that have something in common, looked at before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

from interlock.cli import output
from interlock.cli.consent import DryRun, Older, Yes, age, agreed
from interlock.cli.screen import status_line
from interlock.cli.session import Json, with_client
from interlock.client.cancels import CANCELLABLE, Preview, Selection
from interlock.client.ids import short
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.client import Client
    from interlock.client.records import Cancelled

LONGEST_REASON: Final = 1000
LONGEST_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How many are to be cancelled, and how that is told."""

    selection: Selection
    reason: str
    force: bool
    dry_run: bool
    yes: bool
    json: bool


def cancel(  # noqa: PLR0913 - one argument per option
    ctx: typer.Context,
    executions: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Ids, or unique beginnings or ends of them.")
    ] = None,
    *,
    action: Annotated[str | None, typer.Option(metavar="NAME", help="All of this action.")] = None,
    status: Annotated[
        list[Status] | None, typer.Option(metavar="STATUS", help="All of this status; may be repeated.")
    ] = None,
    tag: Annotated[str | None, typer.Option(metavar="TEXT", help="All with this tag.")] = None,
    pool: Annotated[str | None, typer.Option(metavar="NAME", help="All of this worker pool.")] = None,
    older: Older = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the history.")] = "cancelled on request",
    force: Annotated[bool, typer.Option("--force", help="Grant no grace to what runs, but kill it at once.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Cancel executions: what waits ends at once, what runs is told to stop.

    By id, it fails if any had ended otherwise. By --action, --status, --tag, --pool and --older, of which all that are
    given must fit, it shows what is meant and asks. With --force what runs gets no grace, nor what was told to stop
    before.
    """
    if not 0 < len(reason) <= LONGEST_REASON:
        raise typer.BadParameter(f"give 1 to {LONGEST_REASON} characters", param_hint="--reason")
    chosen = any(given is not None for given in (action, tag, pool, older)) or bool(status)
    if executions and (chosen or dry_run):
        raise typer.BadParameter("give ids, or what the executions have in common, not both", param_hint="ID…")
    if executions:
        return _by_id(ctx, executions, reason, force=force, json=json)
    if not chosen:
        raise typer.BadParameter("give ids, or choose by --action, --status, --tag, --pool or --older")
    cancellable = (*CANCELLABLE, Status.CANCELLING) if force else CANCELLABLE
    if wrong := sorted({*(status or ())} - {*cancellable}):
        raise typer.BadParameter(f"what is {wrong[0]} cannot be cancelled", param_hint="--status")
    selection = Selection(statuses=tuple(status or cancellable), action=action, tag=tag, pool=pool, older=age(older))
    return _by_selection(
        ctx, Wish(selection=selection, reason=reason, force=force, dry_run=dry_run, yes=yes, json=json)
    )


def _by_id(ctx: typer.Context, executions: Sequence[str], reason: str, *, force: bool, json: bool) -> int:
    async def work(client: Client) -> Sequence[Cancelled]:
        return await client.cancel([await client.find(text) for text in executions], reason, forced=force)

    outcomes = with_client(ctx, work)
    for outcome in outcomes:
        output.json_line(outcome) if json else output.line(_fate(outcome))
    return int(any(outcome.status not in (Status.CANCELLED, Status.CANCELLING) for outcome in outcomes))


def _fate(outcome: Cancelled) -> str:
    if outcome.status is None:
        return f"{outcome.id}: no such execution; should its request come within an hour, it is cancelled"
    if outcome.moved or outcome.status in (Status.CANCELLED, Status.CANCELLING):
        already = "" if outcome.moved else " already"
        forced = ", now without its grace" if outcome.forced else ""
        return f"{short(outcome.id)} is {outcome.status}{already}{forced}"
    return f"{short(outcome.id)} is {outcome.status}: nothing to cancel"


def _by_selection(ctx: typer.Context, wish: Wish) -> int:
    preview = with_client(ctx, lambda client: client.preview(wish.selection), statement_seconds=LONGEST_SECONDS)
    if not wish.json:
        _show(preview)
    many = "1 execution" if preview.executions == 1 else f"{preview.executions:,} executions"
    if wish.dry_run or not preview.executions:
        moved = 0
    elif agreed(f"Cancel {many}?", yes=wish.yes):
        moved = with_client(ctx, lambda client: _cancel(client, wish, preview), statement_seconds=LONGEST_SECONDS)
    else:
        output.say("nothing was cancelled")
        return 1
    if wish.json:
        output.document({"preview": preview, "dry_run": wish.dry_run, "cancelled": moved})
    elif not wish.dry_run and preview.executions:
        output.line(f"cancelled {moved:,} of {many}")
    return 0


async def _cancel(client: Client, wish: Wish, preview: Preview) -> int:
    with status_line() as show:
        return await client.cancel_all(
            wish.selection,
            preview.until,
            wish.reason,
            lambda moved: show(
                f"cancelled {moved:,} of {preview.executions:,}; interrupted, it is simply called again"
            ),
            forced=wish.force,
        )


def _show(preview: Preview) -> None:
    if not preview.executions:
        output.say("no open executions like that")
        return
    rows = [(share.action, share.status, share.executions) for share in preview.shares]
    output.table(("action", "status", "executions"), rows)
    more = ", …" if preview.executions > len(preview.first) else ""
    output.line(f"first: {', '.join(map(str, preview.first))}{more}")
