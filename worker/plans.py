"""Where the items of a plan come from: a definition, an action, what a restart superseded or planned anew."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import orjson

from interlock.actions.partitions import Partitioner, items, planner_params
from interlock.contract.errors import Refused
from interlock.contract.status import Status
from worker import store
from worker.outcome import Unstorable, encode_result
from worker.runners.logsink import LogSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from asyncpg import Record
    from pydantic import JsonValue

    from interlock.acceptance.entries import Entry
    from interlock.adapters.postgres import Tx
    from interlock.contract.batches import Batch
    from worker.holdings import Holding
    from worker.outcome import Outcome
    from worker.runners.logsink import Stream

    Read = Callable[[Callable[[Tx], Awaitable[Sequence[Record]]]], Awaitable[Sequence[Record]]]
    RunAction = Callable[[Entry, dict[str, Any], Holding, LogSink], Awaitable[Outcome]]

SLICE: Final = 250


class Item(NamedTuple):
    """One partition to be: its key, and the parameters of its action."""

    key: str
    params: dict[str, JsonValue]


class Plan:
    """A sequence of items that is read once, from its beginning."""

    def __init__(self, open_items: Callable[[], AsyncIterator[Item]], close: Callable[[], None] = lambda: None) -> None:
        self._open_items = open_items
        self._close = close

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[AsyncIterator[Item]]:
        """The items; what they were read from is closed on leaving."""
        try:
            yield self._open_items()
        finally:
            self._close()


class PlanUnreadable(Refused):
    """What an action gave as a plan is none."""

    code = "PlanUnreadable"


def of_items(batch: Batch, params: dict[str, JsonValue]) -> Plan:
    """The items that the definition names."""
    return Plan(lambda: _rendered(batch, params, items(batch, params)))


async def of_action(
    batch: Batch,
    params: dict[str, JsonValue],
    holding: Holding,
    sink: LogSink,
    run: RunAction,
    current: Callable[[str], Awaitable[Entry]],
) -> Plan:
    """Run the planner of a batch: a command prints one JSON value per line, a generator yields, what else is a list.

    Everything is read once before the first partition is made, so that a broken line leaves nothing half planned.
    """
    assert batch.partition is not None and batch.partition.action is not None  # noqa: S101, PT018 - the caller looked
    entry = await current(batch.partition.action)
    given = planner_params(batch.partition, params)
    with ExitStack() as stack:
        spool = stack.enter_context(tempfile.TemporaryFile())
        lines = Spool(spool, sink)
        outcome = await run(entry, given, holding, lines)
        if outcome.status is not Status.COMPLETED:
            raise PlanFailed(replace(outcome, retry=entry.action.retry))
        _keep(outcome, spool, printed=entry.action.command is not None)
        await asyncio.to_thread(_check, spool)
        # From here on the plan closes it.
        return Plan(lambda: _rendered(batch, params, _values(spool)), stack.pop_all().close)


def of_superseded(read: Read, batch: UUID, most: int) -> Plan:
    """What the restart of a batch has superseded, to be made again as it was."""
    return Plan(lambda: _stored(read, store.superseded, batch, (UUID(int=0), "id"), most))


def of_preview(read: Read, preview: UUID, most: int) -> Plan:
    """What a restart is to make of a plan that was made anew before it."""
    return Plan(lambda: _stored(read, store.previewed, preview, (0, "position"), most))


async def _stored(
    read: Read, page: Callable[..., Awaitable[Sequence[Record]]], of: UUID, place: tuple[object, str], most: int
) -> AsyncIterator[Item]:
    """Give what `page` finds of one plan, `most` at a time; `place` is where it begins, and the column that goes on.

    What has no key in a page is only passed by.
    """
    after, column = place
    while True:
        rows = await read(lambda tx: page(tx, of, after, most))  # noqa: B023 - called before `after` changes
        for row in rows:
            if row["key"] is not None:
                yield Item(row["key"], orjson.loads(row["params"]))
        if len(rows) < most:
            return
        after = rows[-1][column]


class PlanFailed(Exception):
    """The planner of a batch did not complete; `outcome` is how it ended."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(str(outcome.status))
        self.outcome = outcome


class Spool(LogSink):
    """Takes what a planner prints or yields into a file, and leaves the rest to the log."""

    def __init__(self, file: IO[bytes], log: LogSink) -> None:
        super().__init__(lambda _entry: None)
        self._file = file
        self._log = log
        self._taken = 0

    def take(self, item: object) -> None:
        """Keep an item of the plan, from any one thread. Raises Unstorable, which names it by its number."""
        self._taken += 1
        try:
            text = encode_result(item, "item")
        except Unstorable as refusal:
            raise Unstorable(PlanUnreadable.code, f"item {self._taken:,} of the plan: {refusal}") from refusal
        self._file.write(text.encode() + b"\n")

    def write(self, stream: Stream, line: str) -> None:
        """Keep a line of the plan, or log it."""
        if stream == "stdout":
            self._file.write(line.encode(errors="surrogateescape") + b"\n")
        else:
            self._log.write(stream, line)


def _keep(outcome: Outcome, spool: IO[bytes], *, printed: bool) -> None:
    if printed:
        return
    if not isinstance(outcome.result, list):
        raise PlanUnreadable(
            "the planner returned no list: return one, yield its items, or print one JSON value per line"
        )
    spool.writelines(orjson.dumps(value) + b"\n" for value in outcome.result)


def _check(spool: IO[bytes]) -> None:
    for _ in _values(spool):
        pass


def _values(spool: IO[bytes]) -> Iterator[JsonValue]:
    spool.seek(0)
    for number, line in enumerate(spool, start=1):
        if line.isspace():
            continue
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError as error:
            shown = line[:80].decode(errors="replace").strip()
            raise PlanUnreadable(f"line {number:,} of the plan is not JSON: {error} (in {shown!r})") from error


async def _rendered(batch: Batch, params: dict[str, JsonValue], values: Iterator[JsonValue]) -> AsyncIterator[Item]:
    partitioner = Partitioner(batch, params)
    for number, value in enumerate(values, start=1):
        yield Item(*partitioner.partition(value, number))
        if number % SLICE == 0:
            await asyncio.sleep(0)
