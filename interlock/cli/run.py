"""`interlock run`: requests executions, and waits for their end if asked to."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from interlock.actions.validation import Schema
from interlock.cli import output, params
from interlock.cli.session import Json, with_client
from interlock.client.ids import short
from interlock.contract.errors import UnknownAction
from interlock.contract.status import Status
from interlock.contract.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from interlock.acceptance.store import Answer
    from interlock.client import Client
    from interlock.client.records import Execution, Registered

TIMED_OUT: Final = 124
CANCELLED: Final = 130
MOST_SHOWN: Final = 10
GOOD: Final = frozenset({Status.COMPLETED, Status.SKIPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was typed."""

    action: str
    pairs: Sequence[str]
    whole: str | None
    count: int
    wait: bool
    timeout: float | None
    json: bool
    extras: dict[str, Any]


def run(  # noqa: PLR0913 - one argument per option
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="ACTION", help="The name of a registered action.")],
    *,
    p: Annotated[
        list[str] | None, typer.Option("-p", "--param", metavar="NAME=TEXT", help="A parameter; NAME:=JSON for JSON.")
    ] = None,
    whole: Annotated[
        str | None, typer.Option("--params", metavar="JSON", help="All parameters; @FILE reads one.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="How many executions to request.")] = 1,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end: 0 completed, 1 failed, 124, 130.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Stop waiting after that long (124); they go on.")
    ] = None,
    priority: Annotated[int | None, typer.Option(min=-100, max=100, metavar="N", help="Higher goes first.")] = None,
    pool: Annotated[str | None, typer.Option(metavar="NAME", help="Another worker pool than the action's.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Idempotency key: the same key is the same execution.")
    ] = None,
    concurrency_key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="One more key, key:TEXT; see `interlock queues`.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A tag; may be repeated.")] = None,
    json: Json = False,
) -> int:
    """Request executions of an action. Prints their ids; with --wait, how they ended."""
    if key is not None and count > 1:
        raise typer.BadParameter("one key is one execution; leave out --key or --count", param_hint="--key")
    extras = {
        "priority": priority,
        "pool": pool,
        "idempotency_key": key,
        "concurrency_key": concurrency_key,
        "tags": tag or None,
    }
    wish = Wish(
        action=action,
        pairs=p or (),
        whole=whole,
        count=count,
        wait=wait,
        timeout=timeout,
        json=json,
        extras={name: value for name, value in extras.items() if value is not None},
    )
    return with_client(ctx, lambda client: _run(client, wish))


async def _run(client: Client, wish: Wish) -> int:
    registered = await _registered(client, wish.action)
    schema = registered.action.params
    wanted = params.read(wish.whole, wish.pairs, schema)
    Schema(schema).check(wanted)
    request = {"action": wish.action, "params": wanted, **wish.extras}
    answers = await submitted(client, [request] * wish.count)
    ids = [identity for answer in answers if (identity := accepted(answer)) is not None]
    for problem in problems(answers):
        output.say(f"interlock: {problem}")
    if wish.wait and ids:
        return max(await _wait(client, ids, wish), int(len(ids) < len(answers)))
    _tell(ids, wish)
    return int(len(ids) < len(answers))


async def _registered(client: Client, name: str) -> Registered:
    known = {each.name: each for each in await client.actions_list() if each.withdrawn_at is None}
    if name not in known:
        if name in {each.name for each in await client.batches_list() if each.withdrawn_at is None}:
            raise UnknownAction(f"{name!r} is a batch: `interlock batch run {name}`")
        hint = did_you_mean(name, known) or "; `interlock actions list` shows what is"
        raise UnknownAction(f"action {name!r} is not registered{hint}")
    return known[name]


async def submitted(client: Client, requests: Sequence[Mapping[str, Any]]) -> Sequence[Answer]:
    """Submit requests. An interrupt meanwhile may come before or behind the commit, so it says where to look."""
    try:
        return await client.submit(requests)
    except asyncio.CancelledError:
        output.say("interrupted while this was requested: `interlock list` shows whether it was accepted")
        raise


def accepted(answer: Answer) -> UUID | None:
    """Return the execution that a request led to, None where it was refused."""
    if answer.error is not None or answer.refused is not None:
        return None
    return answer.id if answer.accepted else answer.existing


def problems(answers: Sequence[Answer]) -> list[str]:
    """Return a line for each thing that went wrong, and for how many."""
    refused: dict[str, list[UUID | None]] = {}
    lines: dict[str, None] = {}
    for answer in answers:
        if answer.refused is not None:
            refused.setdefault(orjson.loads(answer.refused)["message"], []).append(answer.id)
        elif answer.error is not None:
            lines[str(answer.error)] = None
        elif not answer.accepted:
            lines[f"requested before, as execution {answer.existing}"] = None
    for message, ids in refused.items():
        lines[f"refused: {message} ({f'execution {ids[0]}' if len(ids) == 1 else f'{len(ids)} executions'})"] = None
    return list(lines)


def _tell(ids: Sequence[UUID], wish: Wish) -> None:
    for identity in ids:
        if wish.json:
            output.json_line({"id": identity, "action": wish.action})
        else:
            output.line(str(identity))


async def _wait(client: Client, ids: Sequence[UUID], wish: Wish) -> int:
    late = False
    with output.progress() as show:
        try:
            async with asyncio.timeout(wish.timeout):
                await client.wait(ids, show)
        except TimeoutError:
            late = True
        except asyncio.CancelledError:
            output.say("no longer waiting; the executions go on: `interlock cancel` stops them")
            raise
    found = list((await client.get_many(ids)).values())
    _report(found, wish)
    if late:
        output.say(f"stopped waiting after {output.duration(wish.timeout or 0)}; the executions go on")
        return TIMED_OUT
    return exit_code(Counter(execution.status for execution in found))


def exit_code(ends: Counter[Status]) -> int:
    """Return the exit code for how executions ended: the worst one's. What was skipped, or completed, is good."""
    bad = set(+ends) - GOOD
    if not bad:
        return 0
    if bad <= {Status.CANCELLED}:
        return CANCELLED
    return TIMED_OUT if bad <= {Status.CANCELLED, Status.TIMED_OUT} else 1


def _report(found: Sequence[Execution], wish: Wish) -> None:
    if wish.json:
        for execution in found:
            output.json_line(execution)
        return
    counts = Counter(execution.status for execution in found)
    if len(found) > 1:
        output.line(output.counted(counts))
    shown = found if len(found) == 1 else [execution for execution in found if execution.status not in GOOD]
    for execution in shown[:MOST_SHOWN]:
        took = output.between(execution.started_at, execution.finished_at)
        output.line(" ".join(filter(None, (short(execution.id), execution.action, execution.status, took))))
        if execution.error is not None:
            output.line(f"  {execution.error.get('class')}: {execution.error.get('message')}")
    if len(found) == 1 and found[0].result is not None:
        output.line(output.pretty(found[0].result))
