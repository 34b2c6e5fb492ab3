"""`interlock watch` and `interlock logs -f`: what one execution does, as it happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from interlock.cli import output
from interlock.cli.session import Id, Json, with_client
from interlock.contract.status import TERMINAL

if TYPE_CHECKING:
    from interlock.client import Client
    from interlock.client.records import LogLine, Move

SHORTEST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
PAGE: Final = 1000


class Patience:
    """Pauses between looks: short while something happens, longer while nothing does."""

    def __init__(self) -> None:
        self._pause = SHORTEST_PAUSE

    async def pause(self, *, news: bool) -> None:
        """Pause until the next look."""
        self._pause = SHORTEST_PAUSE if news else min(LONGEST_PAUSE, self._pause * 1.5)
        await asyncio.sleep(self._pause)


def watch(ctx: typer.Context, execution: Id, *, json: Json = False) -> None:
    """Print the moves of one execution, those there are and those to come, until it has ended."""

    async def work(client: Client) -> None:
        identity = (await client.get(await client.find(execution))).id
        patience, after = Patience(), 0
        while True:
            moves = await client.transitions(identity, after)
            for move in moves:
                output.json_line(move) if json else output.line(_told(move))
            if moves:
                after = moves[-1].move
                if moves[-1].target in TERMINAL:
                    return
            await patience.pause(news=bool(moves))

    with_client(ctx, work)


def _told(move: Move) -> str:
    why = f" ({move.reason})" if move.reason else ""
    return f"{move.at.isoformat(sep=' ', timespec='milliseconds')}  {move.target}  by {move.actor}{why}"


def logs(
    ctx: typer.Context,
    execution: Id,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Stay until the execution has ended.")] = False,
    json: Json = False,
) -> None:
    """Print what an execution wrote, of all attempts, in order."""

    async def work(client: Client) -> None:
        identity = (await client.get(await client.find(execution))).id
        patience, after = Patience(), (0, -1)
        while True:
            # Before the lines: what ended before they were read has written them all.
            ended = not follow or (await client.get(identity)).status in TERMINAL
            lines = await client.logs(identity, after, PAGE)
            for line in lines:
                output.json_line(line) if json else output.line(_written(line))
            if lines:
                after = (lines[-1].attempt, lines[-1].number)
            elif ended:
                return
            if len(lines) < PAGE and not ended:
                await patience.pause(news=bool(lines))

    with_client(ctx, work)


def _written(line: LogLine) -> str:
    return f"[{line.line}]" if line.stream == "mark" else line.line
