"""`interlock batch restart`, `cancel`, `add` and `seal`: what changes a batch."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from interlock.cli import batch_view, output
from interlock.cli.batch import FAILED, BatchId, find
from interlock.cli.batch_replan import Wish, restart_anew
from interlock.cli.consent import DryRun, Yes  # noqa: TC001 - Typer reads the annotation
from interlock.cli.session import Json, with_client
from interlock.client.batch_records import Choice
from interlock.client.batch_replans import NOTHING
from interlock.client.batches import CHOSEN, NotRestartable
from interlock.client.ids import short
from interlock.contract.errors import InvalidParams
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import JsonValue

    from interlock.client import Client
    from interlock.client.batch_records import Added, BatchState, Chosen

LONGEST_REASON: Final = 1000
LONGEST_SECONDS: Final = 600.0
MOST_TOLD: Final = 10
WORDS: Final = {
    "failed": FAILED,
    "partial": (Status.PARTIAL,),
    "timed_out": (Status.TIMED_OUT,),
    "cancelled": (Status.CANCELLED,),
    "abandoned": (Status.ABANDONED,),
    "skipped": (Status.SKIPPED,),
    "completed": (Status.COMPLETED,),
}
"""What `--only` calls statuses; `failed` is whatever a report counts as failures."""


def restart(
    ctx: typer.Context,
    batch: BatchId,
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT",
            help="failed, partial, timed_out, cancelled, abandoned, keys=A,B or error=FINGERPRINT; may be repeated.",
        ),
    ] = None,
    replan: Annotated[
        bool, typer.Option("--replan", help="Make the plan anew: shows the difference and asks; --only of what stays.")
    ] = False,
    preview: Annotated[
        str | None, typer.Option(metavar="ID", help="With --replan: the plan that was made and shown before.")
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Make partitions of an ended batch again; all others stay and count.

    Without --only that is whatever is partial, failed, timed_out, cancelled or abandoned. Of several statuses, keys or
    errors any will do; where several kinds are given, each must fit. With --replan the keys of a new plan are made too,
    those it no longer has are gone, and without --only all others stay as they are.
    """
    if replan:
        choice = chosen(only) if only else NOTHING
        return restart_anew(ctx, Wish(batch=batch, choice=choice, preview=preview, yes=yes, dry_run=dry_run, json=json))
    if preview is not None:
        raise typer.BadParameter("belongs to --replan", param_hint="--preview")
    return _restart(ctx, batch, chosen(only or ()), dry_run=dry_run, json=json)


def _restart(ctx: typer.Context, batch: str, choice: Choice, *, dry_run: bool, json: bool) -> int:
    async def work(client: Client) -> tuple[BatchState, Chosen, int]:
        identity = await find(client, batch)
        found = await client.batches.chosen(identity, choice)
        if found.unknown:
            raise NotRestartable(f"no partition of batch {identity} is called {', '.join(map(repr, found.unknown))}")
        made = 0 if dry_run else await client.batches.restart(identity, choice)
        return await client.batches.get(identity), found, made

    state, found, made = with_client(ctx, work, statement_seconds=LONGEST_SECONDS)
    if json:
        output.document(
            {
                "id": state.id,
                "dry_run": dry_run,
                "epoch": state.epoch,
                "chosen": found.partitions,
                "shares": found.shares,
                "restarted": made,
            }
        )
    elif dry_run:
        _preview(state, found)
    else:
        output.line(f"{short(state.id)} is {state.status} again: {_partitions(made)} in epoch {state.epoch}")
        output.say(f"follow it: interlock batch watch {short(state.id)}")
    return 0


def chosen(only: Sequence[str]) -> Choice:
    """Read `--only`. Nothing is what a restart takes by itself. Raises BadParameter."""
    statuses: list[Status] = []
    keys: list[str] = []
    errors: list[str] = []
    for text in only:
        name, equals, value = text.partition("=")
        if name in WORDS and not equals:
            statuses += WORDS[name]
        elif name == "keys" and value:
            keys += [key for key in value.split(",") if key]
        elif name == "key" and value:
            keys.append(value)
        elif name == "error" and value:
            errors.append(value)
        else:
            raise typer.BadParameter(
                f"{text!r} is none of {', '.join(WORDS)}, keys=A,B, key=A and error=FINGERPRINT", param_hint="--only"
            )
    if not only:
        return Choice(statuses=CHOSEN)
    return Choice(
        statuses=tuple(dict.fromkeys(statuses)) or None, keys=tuple(keys) or None, errors=tuple(errors) or None
    )


def _preview(state: BatchState, found: Chosen) -> None:
    if not found.partitions:
        output.say(f"no partition of {short(state.id)} is like that: {batch_view.counted(state)}")
        return
    rows = [
        (share.status, share.partitions, ", ".join(share.keys) + (", …" if share.partitions > len(share.keys) else ""))
        for share in found.shares
    ]
    output.table(("status", "partitions", "first keys"), rows)
    output.line(f"{_partitions(found.partitions)} of {state.made:,} would be made again")


def _partitions(number: int) -> str:
    return "1 partition" if number == 1 else f"{number:,} partitions"


def cancel(
    ctx: typer.Context,
    batch: BatchId,
    *,
    drain: Annotated[bool, typer.Option("--drain", help="Let what runs finish; only what waits is cancelled.")] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the history.")] = "cancelled on request",
    json: Json = False,
) -> int:
    """Cancel a batch: what waits of it ends at once, what runs is told to stop. What has ended stays as it ended."""
    if not 0 < len(reason) <= LONGEST_REASON:
        raise typer.BadParameter(f"give 1 to {LONGEST_REASON} characters", param_hint="--reason")

    async def work(client: Client) -> tuple[bool, BatchState]:
        identity = await find(client, batch)
        moved = await client.batches.cancel(identity, reason, drain=drain)
        return moved, await client.batches.get(identity)

    moved, state = with_client(ctx, work)
    good = state.status in (Status.CANCELLED, Status.CANCELLING) or moved
    if json:
        output.document({"id": state.id, "status": state.status, "moved": moved})
    elif good:
        already = "" if moved else " already"
        output.line(f"{short(state.id)} is {state.status}{already}: {batch_view.counted(state)}")
    else:
        output.line(f"{short(state.id)} is {state.status}: nothing to cancel")
    return int(not good)


def add(
    ctx: typer.Context,
    batch: BatchId,
    *,
    item: Annotated[list[str] | None, typer.Option(metavar="JSON", help="One item; may be repeated.")] = None,
    items: Annotated[
        str | None, typer.Option(metavar="FILE", help="A file with one JSON value a line; - is standard input.")
    ] = None,
    json: Json = False,
) -> None:
    """Add partitions to an open batch. An item whose key is there already is told, and not made again."""
    if not item and items is None:
        raise typer.BadParameter("give --item, or a file of them with --items")
    values = [_value(text, "--item") for text in item or ()]
    values += () if items is None else _values(items)

    async def work(client: Client) -> tuple[Added, BatchState]:
        identity = await find(client, batch)
        return await client.batches.add(identity, values), await client.batches.get(identity)

    added, state = with_client(ctx, work)
    if json:
        output.document({"id": state.id, "added": added.added, "known": added.known, "made": state.made})
        return
    output.line(f"added {_partitions(len(added.added))} to {short(state.id)}, which has {state.made:,} now")
    if added.known:
        more = ", …" if len(added.known) > MOST_TOLD else ""
        output.say(f"{len(added.known):,} there already: {', '.join(added.known[:MOST_TOLD])}{more}")


def _values(file: str) -> list[JsonValue]:
    """Read one JSON value a line; all of them, before any is sent. Raises InvalidParams with the line."""
    try:
        lines = sys.stdin.readlines() if file == "-" else Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParams(f"--items {file}: cannot be read: {error}") from error
    return list(_parsed(lines, "standard input" if file == "-" else file))


def _parsed(lines: Iterable[str], where: str) -> Iterable[JsonValue]:
    for number, text in enumerate(lines, start=1):
        if text.strip():
            yield _value(text, f"{where}:{number}")


def _value(text: str, where: str) -> JsonValue:
    try:
        found: JsonValue = jsonlib.loads(text)
    except ValueError as error:
        shown = text.strip()[:60]
        raise InvalidParams(f"{where}: {shown!r} is not JSON: {error}; a text needs quotes: '\"{shown}\"'") from error
    return found


def seal(ctx: typer.Context, batch: BatchId, *, json: Json = False) -> int:
    """Say that no more partitions come: the batch ends with its last one. Again it does no harm."""

    async def work(client: Client) -> tuple[bool, BatchState]:
        identity = await find(client, batch)
        moved = await client.batches.seal(identity)
        return moved, await client.batches.get(identity)

    moved, state = with_client(ctx, work)
    if json:
        output.document({"id": state.id, "sealed": state.sealed, "moved": moved, "made": state.made})
    elif state.sealed or moved:
        output.line(f"{short(state.id)} is sealed{'' if moved else ' already'}: {_partitions(state.made)}")
    else:
        output.line(f"{short(state.id)} is {state.status}")
    return int(not state.sealed)
