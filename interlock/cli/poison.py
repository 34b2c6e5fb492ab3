"""`interlock poison`: messages that could not be handled, shown, sent again or thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import orjson
import typer

from interlock.cli import output
from interlock.cli.consent import DryRun, Older, Yes, age, agreed
from interlock.cli.session import Json, with_client
from interlock.client.poison import PoisonMessage, PoisonPreview, PoisonSelection, Replay, UnknownMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.client import Client

EXCERPT: Final = 512
"""Bytes shown of a body that is no text."""
ROW: Final = 16
MOST: Final = 2**63 - 1
Numbers = Annotated[
    list[int] | None, typer.Argument(min=1, max=MOST, metavar="NUMBER…", help="Messages, as `poison list` shows them.")
]
Queue = Annotated[str | None, typer.Option(metavar="NAME", help="Only of this queue, or of one that ends so.")]
Reason = Annotated[str | None, typer.Option(metavar="WORD", help="Only put aside for this reason.")]
Replayed = Annotated[bool, typer.Option("--replayed", help="Also those that were sent again already.")]


def list_messages(
    ctx: typer.Context,
    *,
    queue: Queue = None,
    reason: Reason = None,
    older: Older = None,
    replayed: Replayed = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="At most so many.")] = 20,
    before: Annotated[
        int | None, typer.Option(min=1, max=MOST, metavar="NUMBER", help="Continue behind this one.")
    ] = None,
    json: Json = False,
) -> None:
    """List messages that were put aside, newest first; without those that were sent again."""
    selection = PoisonSelection(queue=queue, reason=reason, older=age(older), replayed=replayed)
    found = with_client(ctx, lambda client: client.poison.list(selection, limit=limit, before=before))
    if json:
        output.document(found)
    elif not found:
        output.say("no poison messages" + (" like that" if queue or reason or older or before else ""))
    else:
        output.table(("number", "received", "queue", "reason", "bytes", "detail"), [_row(each) for each in found])
        if len(found) == limit:
            output.say(f"more: --before {found[-1].id}")


def _row(each: PoisonMessage) -> tuple[object, ...]:
    again = " (sent again)" if each.replayed_at else ""
    return each.id, output.ago(each.received_at), each.queue, each.reason, each.size, each.detail[:80] + again


def show(
    ctx: typer.Context,
    number: Annotated[
        int, typer.Argument(min=1, max=MOST, metavar="NUMBER", help="A message, as `poison list` shows it.")
    ],
    *,
    json: Json = False,
) -> None:
    """Show one message with its body: as JSON or as text where it is that, else the beginning of its bytes."""
    found, body = with_client(ctx, lambda client: client.poison.get(number))
    kind, value = _decoded(body)
    if json:
        output.document({"message": found, kind: value})
        return
    told = {name: getattr(found, name) for name in ("id", "queue", "reason", "detail", "content_type", "size")}
    told |= {"received": found.received_at, "sent again": found.replayed_at}
    output.fields({name: value for name, value in told.items() if value is not None})
    output.heading("body")
    output.line(output.pretty(value) if kind == "json" else str(value))


def _decoded(body: bytes) -> tuple[str, object]:
    """Return the body as one of json, text and hex."""
    try:
        return "json", orjson.loads(body)
    except orjson.JSONDecodeError:
        pass  # Then it is shown as what it is.
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if all(character.isprintable() or character in "\r\n\t" for character in text):
        return "text", text
    rows = [f"{at:08x}  {body[at : at + ROW].hex(' ')}" for at in range(0, min(len(body), EXCERPT), ROW)]
    more = [f"and {len(body) - EXCERPT:,} bytes more"] if len(body) > EXCERPT else []
    return "hex", "\n".join([*rows, *more])


def replay(
    ctx: typer.Context,
    numbers: Numbers = None,
    *,
    queue: Queue = None,
    reason: Reason = None,
    older: Older = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Send messages again to where they came from, each once. Fails if one cannot be sent again.

    What still cannot be handled is put aside anew, under another number. The broker need not be there now.
    """
    selection = _selection(numbers, queue, reason, older, dry_run=dry_run)
    if selection is None:
        outcomes = with_client(ctx, lambda client: client.poison.replay(numbers or ()))
        return _replayed(outcomes, json=json)
    preview = _preview(ctx, selection, json=json)
    if dry_run or not preview.messages:
        return _looked(preview, json=json)
    if not agreed(f"Send {_many(preview.messages)} again?", yes=yes):
        return 1

    async def work(client: Client) -> list[Replay]:
        done: list[Replay] = []
        last = 0
        while chunk := await client.poison.numbers(selection, preview.until, last):
            done += await client.poison.replay(chunk)
            last = chunk[-1]
        return done

    return _replayed(with_client(ctx, work), json=json)


def _replayed(outcomes: Sequence[Replay], *, json: bool) -> int:
    for outcome in outcomes:
        if json:
            output.json_line(outcome)
        else:
            output.line(f"{outcome.id} " + (f"stays: {outcome.problem}" if outcome.problem else "is sent again"))
    return int(any(outcome.problem for outcome in outcomes))


def drop(  # noqa: PLR0913 - one argument per option
    ctx: typer.Context,
    numbers: Numbers = None,
    *,
    queue: Queue = None,
    reason: Reason = None,
    older: Older = None,
    replayed: Replayed = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Throw messages away for ever. Shows how many of which kind, and asks."""
    selection = _selection(numbers, queue, reason, older, dry_run=dry_run, replayed=replayed)
    if selection is None:
        wanted = list(dict.fromkeys(numbers or ()))
        if not agreed(f"Throw {_many(len(wanted))} away?", yes=yes):
            return 1
        dropped = with_client(ctx, lambda client: client.poison.drop(wanted))
        _dropped(dropped, json=json)
        if dropped < len(wanted):
            raise UnknownMessage(f"{_many(len(wanted) - dropped)} less than asked for: the others are not there")
        return 0
    preview = _preview(ctx, selection, json=json)
    if dry_run or not preview.messages:
        return _looked(preview, json=json)
    if not agreed(f"Throw {_many(preview.messages)} away?", yes=yes):
        return 1

    async def work(client: Client) -> int:
        done = 0
        while chunk := await client.poison.numbers(selection, preview.until):
            done += await client.poison.drop(chunk)
        return done

    _dropped(with_client(ctx, work), json=json)
    return 0


def _dropped(count: int, *, json: bool) -> None:
    output.document({"dropped": count}) if json else output.line(f"dropped {_many(count)}")


def _selection(
    numbers: Sequence[int] | None,
    queue: str | None,
    reason: str | None,
    older: str | None,
    *,
    dry_run: bool,
    replayed: bool = False,
) -> PoisonSelection | None:
    """Return what is chosen by its kind, or None for numbers. Raises BadParameter for both and for neither."""
    chosen = queue is not None or reason is not None or older is not None
    if numbers and (chosen or dry_run or replayed):
        raise typer.BadParameter("give numbers, or what the messages have in common, not both", param_hint="NUMBER…")
    if not numbers and not chosen:
        raise typer.BadParameter("give numbers, or choose by --queue, --reason or --older (0s for all)")
    return None if numbers else PoisonSelection(queue=queue, reason=reason, older=age(older), replayed=replayed)


def _preview(ctx: typer.Context, selection: PoisonSelection, *, json: bool) -> PoisonPreview:
    preview = with_client(ctx, lambda client: client.poison.preview(selection))
    if preview.messages and not json:
        rows = [(share.queue, share.reason, share.messages) for share in preview.shares]
        output.table(("queue", "reason", "messages"), rows)
    return preview


def _looked(preview: PoisonPreview, *, json: bool) -> int:
    """Tell what would have been meant, without having done anything."""
    if json:
        output.document({"preview": preview})
    elif not preview.messages:
        output.say("no poison messages like that")
    return 0


def _many(count: int) -> str:
    return "1 message" if count == 1 else f"{count:,} messages"
