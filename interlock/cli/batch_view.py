"""How a batch looks: its bar, its counts, when it will be done, and what failed. Reads nothing, writes nothing."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from rich.text import Text

from interlock.cli import output
from interlock.client.ids import short
from interlock.contract.status import TERMINAL, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.client.batch_records import BatchState, FailureGroup

BAR: Final = 40
FULL: Final = "█"
EMPTY: Final = "░"
ORDER: Final = (
    Status.COMPLETED,
    Status.SKIPPED,
    Status.PARTIAL,
    Status.FAILED,
    Status.TIMED_OUT,
    Status.ABANDONED,
    Status.CANCELLED,
)
"""The statuses of partitions from left to right."""
MOST_GROUPS: Final = 5
WIDEST_MESSAGE: Final = 100


def cells(state: BatchState, width: int = BAR) -> list[tuple[Status, int]]:
    """Return how many cells of a bar belong to each status, from left to right; the rest is still to come.

    Rounded down: a cell is full when all that it stands for has ended, and the last one only when the batch has.
    """
    if not state.total:
        return []
    room = width if state.status in TERMINAL else width - 1
    filled, ended, found = 0, 0, []
    for status in ORDER:
        ended += getattr(state, status)
        upto = min(room, width * ended // state.total)
        found.append((status, upto - filled))
        filled = upto
    return [(status, count) for status, count in found if count]


def bar(state: BatchState, width: int = BAR) -> Text:
    """Return the bar in the colours of the statuses."""
    parts = [(FULL * count, output.STYLES[status]) for status, count in cells(state, width)]
    text = Text.assemble(*parts)
    return text.append(EMPTY * (width - len(text)), "dim")


def progress(state: BatchState) -> str:
    """Return how far a batch is: `42 %, 42 of 100`; of an open one, or one that plans still, what is known."""
    if state.status in TERMINAL and state.total is None:
        why = "nobody sealed it" if state.planned else "its plan was never finished"
        return f"{state.processed:,} of {state.made:,}; {why}"
    if not state.planned:
        return f"being planned, {state.made:,} so far"
    if state.total is None:
        return f"{state.processed:,} of {state.made:,} so far" if state.made else "nothing to do so far"
    return f"{state.percent} %, {state.processed:,} of {state.total:,}"


def counted(state: BatchState) -> str:
    """Return the counts that are not zero: `8 running, 50 waiting, 40 completed, 2 failed`."""
    names = ("running", "scheduled", "waiting", *(str(status) for status in ORDER))
    return ", ".join(f"{number:,} {name}" for name in names if (number := getattr(state, name))) or "no partitions"


def pace(state: BatchState) -> str | None:
    """Return how fast a batch is and when it will be done; None where neither is known."""
    told = [] if state.rate is None else [f"{_rate(state.rate)}"]
    if state.status not in TERMINAL and state.eta_seconds is not None:
        told.append(f"about {output.duration(state.eta_seconds)} to go")
    return ", ".join(told) or None


def _rate(rate: float) -> str:
    """Return partitions per second, or per minute or hour where that is too small a number."""
    for seconds, unit in ((1, "s"), (output.MINUTE, "min"), (output.HOUR, "h")):
        if rate * seconds >= 1 or unit == "h":
            number = rate * seconds
            return f"{number:.0f}/{unit}" if number >= 10 else f"{number:.1f}/{unit}"  # noqa: PLR2004 - two digits
    raise AssertionError("unreachable")


def stalled(state: BatchState) -> str | None:
    """Return since when nothing moves, and why."""
    if state.stalled_since is None:
        return None
    return f"since {output.between(state.stalled_since, None)}: {state.stalled_reason or 'nothing is known to hold it'}"


def summary(state: BatchState) -> str:
    """Return all of it on one line."""
    parts = [f"{short(state.id)} {state.name} {state.status}: {progress(state)}; {counted(state)}"]
    parts += [text for text in (pace(state),) if text]
    if state.stalled_since is not None:
        parts.append(f"stands still {stalled(state)}")
    return "; ".join(parts)


def live(state: BatchState, failures: Sequence[FailureGroup]) -> Text:
    """Return what a terminal shows while a batch goes on: the bar, the counts, the pace, what holds it, what failed."""
    epoch = f"  epoch {state.epoch}" if state.epoch > 1 else ""
    head = Text.assemble(
        (state.name, "bold"), f"  {short(state.id)}  ", (str(state.status), output.STYLES[state.status]), epoch
    )
    lines = [head, Text.assemble(bar(state), f"  {progress(state)}"), _coloured(state)]
    lines += [Text(text) for text in (pace(state),) if text]
    if state.stalled_since is not None:
        lines.append(Text(f"stands still {stalled(state)}", "yellow"))
    lines += [Text(line, "red") for line in grouped(failures)]
    return Text("\n").join(lines)


def _coloured(state: BatchState) -> Text:
    parts: list[tuple[str, str]] = [
        (f"{getattr(state, name):,} {name}", style)
        for name, style in (("running", "bold blue"), ("scheduled", "blue"), ("waiting", "cyan"))
        if getattr(state, name)
    ]
    parts += [(f"{getattr(state, s):,} {s}", output.STYLES[s]) for s in ORDER if getattr(state, s)]
    return Text("  ").join(Text(text, style) for text, style in parts)


def grouped(failures: Sequence[FailureGroup]) -> list[str]:
    """Return a line for each of the commonest failures: `2 x ValueError: no such user (alice, bob)`."""
    lines = [f"{each.partitions:,} x {_message(each)} ({_keys(each)})" for each in failures[:MOST_GROUPS]]
    if (more := len(failures) - MOST_GROUPS) > 0:
        lines.append(f"and {more} more kinds of failures")
    return lines


def _message(group: FailureGroup) -> str:
    first = group.message.partition("\n")[0]
    shown = first if len(first) <= WIDEST_MESSAGE else f"{first[: WIDEST_MESSAGE - 1]}…"
    return f"{group.error_class}: {shown}"


def _keys(group: FailureGroup) -> str:
    more = ", …" if group.partitions > len(group.keys) else ""
    return ", ".join(group.keys) + more


def facts(state: BatchState) -> dict[str, object]:
    """Return the fields of a batch that there is something to say of."""
    epoch = None if state.epoch == 1 else f"{state.epoch} (restarted {_times(state.epoch - 1)})"
    values = {
        "id": state.id,
        "batch": state.name,
        "status": state.status,
        "progress": progress(state),
        "partitions": counted(state),
        "open for more": None
        if state.sealed or not state.planned or state.status in TERMINAL
        else "until `interlock batch seal`",
        "rate": None if state.rate is None else _rate(state.rate),
        "to go": None
        if state.eta_seconds is None or state.status in TERMINAL
        else f"about {output.duration(state.eta_seconds)}",
        "stands still": stalled(state),
        "at a time": _parallel(state),
        "epoch": epoch,
        "requested": state.requested_at,
        "started": state.started_at,
        "finished": state.finished_at,
        "took": output.between(state.started_at, state.finished_at),
        "cancel reason": state.cancel_reason,
        "error": None if state.error is None else f"{state.error.get('class')}: {state.error.get('message')}",
    }
    return {name: value for name, value in values.items() if value is not None}


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _parallel(state: BatchState) -> str | None:
    if state.max_parallel is None:
        return "paused" if state.paused else None
    return f"{state.max_parallel}{', paused' if state.paused else ''}"


def failure_rows(failures: Sequence[FailureGroup]) -> list[tuple[object, ...]]:
    """Return the rows of the table of failures."""
    return [(each.partitions, each.fingerprint, _message(each), _keys(each)) for each in failures]


def ways_back(state: BatchState, failures: Sequence[FailureGroup]) -> list[str]:
    """Return the commands that make again what did not complete of an ended batch."""
    if state.status not in TERMINAL or not state.planned:
        return []
    command = f"interlock batch restart {short(state.id)}"
    failed = state.failed + state.timed_out + state.abandoned
    chosen = [f"{command} --only failed"] if failed else []
    chosen += [f"{command} --only {name}" for name in ("partial", "cancelled") if getattr(state, name)]
    if len(failures) > 1:
        chosen.append(f"{command} --only {shlex.quote(f'error={failures[0].fingerprint}')}")
    return chosen
