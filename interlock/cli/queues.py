"""`interlock queues`: keys of executions, how they stand, and changing them while work runs."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from interlock.cli import output
from interlock.cli.screen import Watch, status_line, watched
from interlock.cli.session import Json, with_client
from interlock.client.queues import UnknownQueue
from interlock.contract.keys import rate_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from interlock.client import Client
    from interlock.client.bounds import Change
    from interlock.client.queue_records import Queue

Name = Annotated[str, typer.Argument(metavar="NAME", help="A key, such as action:checksum or customer/42.")]
Drain = Annotated[bool, typer.Option("--drain", help="Wait until nothing that was admitted is left.")]
NONE = "none"


def show(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Only these keys.")] = None,
    *,
    idle: Annotated[bool, typer.Option("--all", help="Also keys that bound nothing and that nobody has.")] = False,
    watch: Watch = False,
    json: Json = False,
) -> None:
    """Show keys: what bounds them, who holds and waits, what went through them, and the waits of the last hour."""

    async def work(client: Client) -> None:
        async def look() -> Sequence[Queue]:
            return await client.queues(names or (), idle=idle)

        if not watch:
            _print(await look(), json=json)
        elif json:
            told: dict[tuple[str, str], Queue] = {}
            await watched(look, lambda found: _tell_changes(found, told), redraw=False)
        else:
            await watched(look, lambda found: _print(found, json=False), redraw=True)

    with_client(ctx, work)


def _tell_changes(found: Sequence[Queue], told: dict[tuple[str, str], Queue]) -> None:
    for queue in found:
        if told.get((queue.scope, queue.name)) != queue:
            output.json_line(queue)
        told[queue.scope, queue.name] = queue


def _print(found: Sequence[Queue], *, json: bool) -> None:
    if json:
        output.document(found)
    elif not found:
        output.say("no key bounds anything or is in use: `interlock queues limit NAME N`; --all shows those that were")
    else:
        columns = ("queue", "limit", "active", "waiting", "oldest", "admitted", "finished", "cancelled")
        output.table((*columns, "wait p50", "p95", "p99", ""), [_row(queue) for queue in found])


def _row(queue: Queue) -> tuple[object, ...]:
    waits = (queue.wait_p50, queue.wait_p95, queue.wait_p99)
    return (
        queue.name,
        _bounds(queue),
        queue.active,
        queue.waiting,
        output.between(queue.oldest_waiting, None),
        queue.admitted,
        queue.finished,
        queue.cancelled,
        *(None if wait is None else f"<{output.duration(wait)}" for wait in waits),
        _remark(queue),
    )


def _bounds(queue: Queue) -> str:
    parts = [] if queue.limit is None else [str(queue.limit)]
    if queue.rate is not None:
        parts.append(queue.rate if queue.burst in (None, 1) else f"{queue.rate} burst {queue.burst}")
    if queue.cap is not None:
        parts.append(f"cap {queue.cap}" + ("" if queue.cap_policy == "reject" else f" {queue.cap_policy}"))
    return ", ".join(parts) or NONE


def _remark(queue: Queue) -> str:
    words = ["for parents"] if queue.scope == "parent" else []
    words += ["paused"] if queue.paused else []
    words += ["closed"] if queue.limit == 0 else []
    words += ["drains"] if queue.limit is not None and queue.active > queue.limit else []
    words += [f"next {output.ago(queue.wake_at)}"] if queue.wake_at is not None else []
    return ", ".join(words)


def _read_number(text: str | None) -> int | None:
    """Read a number, or `none`."""
    if text is None or text == NONE:
        return None
    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f'{text!r} is neither a number from 0 on nor "{NONE}"')
    return int(text)


def _read_rate(text: str | None) -> str | None:
    """Read a rate, or `none`."""
    if text is None or text == NONE:
        return None
    try:
        rate_seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return text


def limit(
    ctx: typer.Context,
    name: Name,
    number: Annotated[
        str | None, typer.Argument(metavar="[N|none]", help="How many at the same time; 0 admits none.")
    ] = None,
    *,
    rate: Annotated[str | None, typer.Option(metavar="RATE|none", help="How many per time: 10/s, 100/5m.")] = None,
    burst: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many of a rate at once.")] = None,
    cap: Annotated[str | None, typer.Option(metavar="N|none", help="How many may wait.")] = None,
    cap_policy: Annotated[
        Literal["reject", "drop_oldest"] | None, typer.Option(help="Who gives way beyond the cap.")
    ] = None,
    json: Json = False,
) -> None:
    """Change what bounds a key, at once. What is not given stays; `none` takes a bound away.

    What has a slot keeps it: a lower limit takes effect as they end. A definition that changes sets its bounds again.
    """
    change: Change = {}
    if number is not None:
        change["limit"] = _read_number(number)
    if rate is not None:
        change["rate"] = _read_rate(rate)
    if burst is not None:
        change["burst"] = burst
    if cap is not None:
        change["cap"] = _read_number(cap)
    if cap_policy is not None:
        change["cap_policy"] = cap_policy
    if not change:
        raise typer.BadParameter("say what to change: a number, --rate, --burst, --cap or --cap-policy")
    _told(with_client(ctx, lambda client: _changed(client, name, lambda: client.limit(name, **change))), json=json)


def pause(ctx: typer.Context, name: Name, *, drain: Drain = False, json: Json = False) -> None:
    """Admit nothing more on a key. What has a slot goes on; --drain waits for its end."""

    async def work(client: Client) -> Queue:
        queue = await _changed(client, name, lambda: client.pause(name))
        if not drain:
            return queue
        with status_line() as show:
            try:
                await client.drained(name, lambda left: show(f"{name} is paused; {left} still hold a slot"))
            except asyncio.CancelledError:
                output.say(f"{name} stays paused: `interlock queues resume {shlex.quote(name)}` lets it go on")
                raise
        return next(each for each in await client.queues([name]) if each.scope == "leaf")

    _told(with_client(ctx, work), json=json)


def resume(ctx: typer.Context, name: Name, *, json: Json = False) -> None:
    """Let a paused key admit again, at once."""
    _told(with_client(ctx, lambda client: client.resume(name)), json=json)


async def _changed(client: Client, name: str, change: Callable[[], Awaitable[Queue]]) -> Queue:
    """Make a change, and say so when no execution has had the key yet: the name may be misspelled."""
    try:
        await client.queues([name])
    except UnknownQueue:
        queue = await change()
        output.say(f"{name} is new: no execution has had this key yet")
        return queue
    return await change()


def _told(queue: Queue, *, json: bool) -> None:
    if json:
        output.document(queue)
        return
    state = "is paused" if queue.paused else "is open" if queue.limit != 0 else "is closed"
    output.line(f"{queue.name} {state}: limit {_bounds(queue)}; active {queue.active}, waiting {queue.waiting}")
