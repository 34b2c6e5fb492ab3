"""How a command speaks: data to standard output, progress to standard error; colours and boxes only on a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence

STYLES: Final = {
    Status.REQUESTED: "cyan",
    Status.SCHEDULED: "blue",
    Status.RUNNING: "bold blue",
    Status.CANCELLING: "magenta",
    Status.COMPLETED: "green",
    Status.PARTIAL: "yellow",
    Status.FAILED: "red",
    Status.TIMED_OUT: "red",
    Status.CANCELLED: "magenta",
    Status.ABANDONED: "red",
    Status.SKIPPED: "dim",
}
MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400


def document(value: object) -> None:
    """Write one JSON document: one line for a program, indented for a person."""
    options = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    sys.stdout.write(orjson.dumps(value, default=_plain, option=options | orjson.OPT_UTC_Z).decode() + "\n")


def json_line(value: object) -> None:
    """Write one JSON value as a line of its own, at once."""
    sys.stdout.write(orjson.dumps(value, default=_plain, option=orjson.OPT_UTC_Z).decode() + "\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    if isinstance(value, UUID):
        return str(value)  # asyncpg's own kind, which the library does not know
    raise TypeError(f"{type(value).__name__} has no JSON form")


def pretty(value: object) -> str:
    """Return a JSON value as indented text."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def line(text: str) -> None:
    """Write one line of data, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Write one line about what goes on."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write rows under their headings: a coloured table on a terminal, columns of plain text elsewhere."""
    if sys.stdout.isatty():
        drawn = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            drawn.add_column(column, overflow="fold")
        for row in rows:
            drawn.add_row(*(_cell(value) for value in row))
        Console().print(drawn)
        return
    texts = [list(columns), *([_text(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        line("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def fields(values: Mapping[str, object]) -> None:
    """Write names and values, one pair a line."""
    width = max(map(len, values), default=0)
    console = Console(highlight=False, soft_wrap=True)
    for name, value in values.items():
        if sys.stdout.isatty():
            console.print(Text.assemble((name.ljust(width), "dim"), "  ", _cell(value)))
        else:
            line(f"{name.ljust(width)}  {_text(value)}".rstrip())


def heading(text: str) -> None:
    """Write a title between two parts of an answer."""
    line("")
    Console(highlight=False).print(Text(text, style="bold")) if sys.stdout.isatty() else line(text)


def _text(value: object) -> str:
    if value is None:
        return "-"
    return value.isoformat(sep=" ", timespec="milliseconds") if isinstance(value, datetime) else str(value)


def _cell(value: object) -> Text:
    return Text(_text(value), style=STYLES[value] if isinstance(value, Status) else "")


def ago(moment: datetime | None) -> str | None:
    """Return how long ago a moment was, in its largest unit; a moment to come is `in` so long."""
    if moment is None:
        return None
    seconds = (datetime.now(UTC) - moment).total_seconds()
    return f"in {duration(-seconds)}" if seconds < 0 else f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """Return a length of time as people say it: 12ms, 3.4s, 5m 10s, 2h 5m, 3d 4h."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < MINUTE:
        return f"{seconds:.1f}s"
    for unit, name, below, smaller in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "m"), (MINUTE, "m", 1, "s")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{name} {seconds % unit // below:.0f}{smaller}"
    return f"{seconds:.0f}s"


def between(first: datetime | None, last: datetime | None) -> str | None:
    """Return the time from one moment to another, or to now if the last is yet to come."""
    return None if first is None else duration(((last or datetime.now(UTC)) - first).total_seconds())


def counted(counts: Mapping[Status, int]) -> str:
    """Return counts in the order of the statuses: `3 running, 5 completed`."""
    return ", ".join(f"{counts[status]} {status}" for status in Status if counts.get(status)) or "nothing"


@contextmanager
def progress() -> Iterator[Callable[[Counter[Status]], None] | None]:
    """Give a function that shows counts as they change, on a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    with Live(console=Console(stderr=True), refresh_per_second=8, transient=True) as live:

        def show(counts: Counter[Status]) -> None:
            parts: list[Any] = [(f"{counts[s]} {s}  ", STYLES[s]) for s in Status if counts[s]]
            live.update(Text.assemble(*parts))

        yield show
