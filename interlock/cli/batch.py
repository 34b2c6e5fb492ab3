"""`interlock batch run`, `show`, `watch` and `partitions`: starting batches and looking at them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from interlock.actions.files import load_file
from interlock.actions.validation import Schema
from interlock.cli import batch_view, output, params
from interlock.cli.batch_live import follow, shown
from interlock.cli.run import TIMED_OUT, accepted, exit_code, problems, submitted
from interlock.cli.session import Json, with_client
from interlock.client.ids import short
from interlock.contract.batches import Batch
from interlock.contract.errors import InvalidDefinition, UnknownAction
from interlock.contract.status import TERMINAL, Status
from interlock.contract.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from pydantic import JsonValue

    from interlock.client import Client
    from interlock.client.batch_records import BatchState, FailureGroup, Partition

PAGE: Final = 1000
FAILED: Final = (Status.FAILED, Status.TIMED_OUT, Status.ABANDONED)
BatchId = Annotated[
    str, typer.Argument(metavar="ID", help="The id of the batch, or any unique beginning or end of it.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was typed."""

    name: str
    inline: Batch | None
    pairs: Sequence[str]
    whole: str | None
    wait: bool
    timeout: float | None
    json: bool
    extras: Mapping[str, Any]


def run(  # noqa: PLR0913 - one argument per option
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The name of a registered batch.")] = None,
    *,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A definition that is not registered: YAML with one batch.")
    ] = None,
    p: Annotated[
        list[str] | None, typer.Option("-p", "--param", metavar="NAME=TEXT", help="A parameter; NAME:=JSON for JSON.")
    ] = None,
    whole: Annotated[
        str | None, typer.Option("--params", metavar="JSON", help="All parameters; @FILE reads one.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end: 0 completed, 1 failed, 124, 130.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Stop waiting after that long (124); it goes on.")
    ] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, metavar="N", help="Higher goes first.")] = None,
    pool: Annotated[str | None, typer.Option(metavar="NAME", help="Another pool for its planning.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Idempotency key: the same key is the same batch.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A tag; may be repeated.")] = None,
    json: Json = False,
) -> int:
    """Start a batch. Prints its id; with --wait, how it goes and how it ended.

    With --wait the exit code is that of the outcome: 0 completed, 1 failed or partial, 124 timed out, 130 cancelled.
    """
    inline = None if file is None else _defined(file, name)
    if name is None and inline is None:
        raise typer.BadParameter("name a registered batch, or give --file", param_hint="NAME")
    extras = {"priority": priority, "pool": pool, "idempotency_key": key, "tags": tag or None}
    wish = Wish(
        name=name or (inline.name if inline else ""),
        inline=inline,
        pairs=p or (),
        whole=whole,
        wait=wait,
        timeout=timeout,
        json=json,
        extras={each: value for each, value in extras.items() if value is not None},
    )
    return with_client(ctx, lambda client: _run(client, wish))


def _defined(file: Path, name: str | None) -> Batch:
    """Return the one batch that a file defines. Raises InvalidDefinition and BadParameter."""
    found = [each.content for each in load_file(file) if isinstance(each.content, Batch)]
    if len(found) != 1:
        raise InvalidDefinition(f"{file}: holds {len(found) or 'no'} batches; --file takes a file with exactly one")
    if name not in (None, found[0].name):
        raise typer.BadParameter(f"{file} defines {found[0].name!r}, not {name!r}; leave the name out")
    return found[0]


async def _run(client: Client, wish: Wish) -> int:
    batch = wish.inline or await _registered(client, wish.name)
    wanted = params.read(wish.whole, wish.pairs, batch.params)
    Schema(batch.params).check(wanted)
    request = {"action": batch.name, "params": wanted, **wish.extras}
    if wish.inline is not None:
        definition: dict[str, JsonValue] = orjson.loads(batch.canonical())
        request["definition"] = {name: value for name, value in definition.items() if name != "batch"}
    answers = await submitted(client, [request])
    for problem in problems(answers):
        output.say(f"interlock: {problem}")
    identity = accepted(answers[0])
    if identity is None:
        return 1
    if not wish.json:
        output.line(str(identity))
    elif not wish.wait:
        output.json_line({"id": identity, "batch": batch.name})
    return await _wait(client, identity, wish) if wish.wait else 0


async def _registered(client: Client, name: str) -> Batch:
    known = {each.name: each for each in await client.batches_list() if each.withdrawn_at is None}
    if name in known:
        return known[name].batch
    if name in {each.name for each in await client.actions_list() if each.withdrawn_at is None}:
        raise UnknownAction(f"{name!r} is an action, not a batch: `interlock run {name}`")
    hint = did_you_mean(name, known) or "; `interlock actions list` shows what is"
    raise UnknownAction(f"batch {name!r} is not registered{hint}")


async def _wait(client: Client, identity: UUID, wish: Wish) -> int:
    try:
        async with asyncio.timeout(wish.timeout):
            with shown() as show:
                await follow(client, identity, show)
    except TimeoutError:
        output.say(f"stopped waiting after {output.duration(wish.timeout or 0)}; the batch goes on")
        output.json_line(await client.batches.get(identity)) if wish.json else None
        return TIMED_OUT
    except asyncio.CancelledError:
        output.say(f"no longer waiting; the batch goes on: `interlock batch cancel {short(identity)}` stops it")
        raise
    state = await client.batches.get(identity)
    if wish.json:
        output.json_line(state)
    else:
        _ended(state, await client.batches.failures(identity))
    return exit_code(Counter({state.status: 1}))


def _ended(state: BatchState, failures: Sequence[FailureGroup]) -> None:
    took = output.between(state.started_at, state.finished_at)
    output.line(f"{short(state.id)} {state.name} {state.status} after {took}: {batch_view.counted(state)}")
    if state.error is not None:
        output.line(f"  {state.error.get('class')}: {state.error.get('message')}")
    for line in batch_view.grouped(failures):
        output.line(f"  {line}")
    for command in batch_view.ways_back(state, failures)[:1]:
        output.say(f"again: {command}")


def show(ctx: typer.Context, batch: BatchId, *, json: Json = False) -> None:
    """Show everything about one batch: how far it is, what failed of what, and how to make that again."""

    async def work(client: Client) -> tuple[BatchState, Sequence[FailureGroup]]:
        identity = await find(client, batch)
        return await client.batches.get(identity), await client.batches.failures(identity)

    state, failures = with_client(ctx, work)
    if json:
        output.document({"batch": state, "failures": failures})
        return
    output.fields(batch_view.facts(state))
    if state.params:
        output.heading("params")
        output.line(output.pretty(state.params))
    if failures:
        output.heading("failures")
        output.table(("partitions", "fingerprint", "error", "first keys"), batch_view.failure_rows(failures))
    if commands := batch_view.ways_back(state, failures):
        output.heading("again")
        for command in commands:
            output.line(command)


async def find(client: Client, text: str) -> UUID:
    """Return the batch that a part of its id means; a name is refused with where its ids are."""
    known = {each.name for each in await client.batches_list()}
    if text in known:
        raise typer.BadParameter(
            f"{text!r} is what a batch is called; give the id of one: `interlock list --action {text}`", param_hint="ID"
        )
    return await client.batches.find(text)


def watch(ctx: typer.Context, batch: BatchId, *, json: Json = False) -> int:
    """Follow a batch until it ends, and end as it does: 0 completed, 1 failed or partial, 124 timed out, 130 cancelled.

    On a terminal it is drawn again and again, elsewhere there is a line per change; with --json an object.
    """

    async def work(client: Client) -> int:
        identity = await find(client, batch)
        if json:
            told: list[BatchState] = []
            await follow(client, identity, lambda state, _: _tell_change(state, told))
        else:
            with shown(lines=True) as show_it:
                await follow(client, identity, show_it)
        state = await client.batches.get(identity)
        if not json:
            _ended(state, await client.batches.failures(identity))
        return exit_code(Counter({state.status: 1}))

    return with_client(ctx, work)


def _tell_change(state: BatchState, told: list[BatchState]) -> None:
    """Write a state if more than the passing of time sets it apart from the last one."""
    same = replace(state, rate=None, eta_seconds=None)
    if not told or told[-1] != same:
        output.json_line(state)
    told[:] = [same]


def partitions(
    ctx: typer.Context,
    batch: BatchId,
    *,
    status: Annotated[
        list[Status] | None, typer.Option(metavar="STATUS", help="Only this status; may be repeated.")
    ] = None,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Also those that a restart replaced by new ones.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=PAGE, metavar="N", help="At most so many.")] = 50,
    cursor: Annotated[
        str | None, typer.Option(metavar="ID", help="Continue behind this id: the cursor of the page before.")
    ] = None,
    whole: Annotated[bool, typer.Option("--all", help="All of them; with --json one object a line.")] = False,
    json: Json = False,
) -> None:
    """List the partitions of a batch, in the order of their ids."""

    async def work(client: Client) -> None:
        identity = await find(client, batch)
        after = await client.find(cursor) if cursor else None
        first = True
        while first or (whole and after is not None):
            found, after = await client.batches.partitions(
                identity, status=status or (), superseded=superseded, limit=PAGE if whole else limit, cursor=after
            )
            _page(found, after, whole=whole, superseded=superseded, json=json)
            if first and not found and not json:
                output.say("no partitions" + (" like that" if status else " yet"))
            first = False

    with_client(ctx, work)


def _page(found: Sequence[Partition], cursor: UUID | None, *, whole: bool, superseded: bool, json: bool) -> None:
    if json and whole:
        for each in found:
            output.json_line(each)
    elif json:
        output.document({"items": found, "cursor": cursor})
    elif found:
        past = ("epoch", "superseded by") if superseded else ()
        output.table(
            ("id", "key", "status", "attempt", "took", *past, "error"),
            [_partition(each, superseded=superseded) for each in found],
        )
        if cursor is not None and not whole:
            output.say(f"more: --cursor {cursor}")


def _partition(each: Partition, *, superseded: bool) -> tuple[object, ...]:
    past = (each.epoch, each.superseded_by and short(each.superseded_by)) if superseded else ()
    end = each.finished_at if each.status in TERMINAL or each.finished_at else None
    problem = "" if each.error is None else f"{each.error.get('class')}: {each.error.get('message')}"[:100]
    return short(each.id), each.key, each.status, each.attempt, output.between(each.started_at, end), *past, problem
