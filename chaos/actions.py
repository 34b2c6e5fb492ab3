"""What workers run in a trial: actions that bear witness to themselves in files, whatever the daemons may think.

A file per execution is locked for as long as the action lives, and one of `limit` files per key: a dead process lets go
of its locks. A lock that is refused is written down: two attempts at once, or more holders than a limit allows.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from interlock.results import partial, skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from interlock.results import Context

RUNS: Final = "runs"
SLOTS: Final = "slots"
NOTES: Final = "notes"
CALLS: Final = "calls"
OVERLAP: Final = "overlap"
OVER: Final = "over"
# The same in the shell: the locks stay with every process that the command starts.
COMMAND: Final = (
    'exec 9>>"$1/runs/$INTERLOCK_EXECUTION_ID"; flock -n 9 || echo "overlap $INTERLOCK_EXECUTION_ID" >>"$1/notes"; '
    'n=0; while [ "$n" -lt "$3" ]; do exec 8>>"$1/slots/$2.$n"; flock -n 8 && break; n=$((n+1)); done; '
    '[ "$n" -lt "$3" ] || [ "$3" = 0 ] || echo "over $2" >>"$1/notes"; sleep "$4"'
)


class Rehearsed(Exception):
    """A failure that the request asked for."""


async def work(
    evidence: str,
    context: Context,
    *,
    seconds: float = 0.0,
    fail: float = 0,
    key: str = "",
    limit: int = 0,
    group: int = 0,
) -> int:
    """Hold the locks for `seconds`; the first `fail` attempts end in Rehearsed. Returns the attempt's number."""
    del group  # it names a key, and is nothing to the work
    with witnessed(Path(evidence), context.execution_id, key, limit):
        await asyncio.sleep(seconds)
        if context.attempt <= fail:
            raise Rehearsed(f"attempt {context.attempt} was to fail")
    return context.attempt


async def part(
    evidence: str,
    context: Context,
    *,
    seconds: float,
    end: str,
    fail: int = 0,
    key: str = "",
    limit: int = 0,
) -> object:
    """Be a partition that ends as `end` says, once `fail` attempts have ended in Rehearsed.

    `either`: half of all executions complete, the others fail, each in all its attempts.
    """
    if end == "either":
        end = "failed" if UUID(context.execution_id).int % 2 else "completed"
    number = await work(
        evidence, context, seconds=seconds, fail=math.inf if end == "failed" else fail, key=key, limit=limit
    )
    return {"partial": partial(number), "skipped": skip("asked to")}.get(end, number)


async def numbers(*, count: int) -> list[int]:
    """Return the items of a plan."""
    return list(range(1, count + 1))


async def called(evidence: str, context: Context, *, batch: str, epoch: int, event: str) -> None:
    """Be called back, and write down of what, by which execution and in which attempt."""
    with witnessed(Path(evidence), context.execution_id, "", 0):
        await asyncio.sleep(0)
        _write(Path(evidence) / CALLS, f"{batch} {epoch} {event} {context.execution_id} {context.attempt}")


async def odd(evidence: str, context: Context, *, kind: str) -> object:
    """Return, raise or log what no database and no JSON text can hold."""
    with witnessed(Path(evidence), context.execution_id, "", 0):
        await asyncio.sleep(0)
        context.log(f"\0\ud800 {kind} " + "x" * 100_000)
        if kind == "raises":
            raise Rehearsed("\0\ud800" * 5000)
        return ODD[kind]


def _deep(levels: int) -> list[object]:
    found: list[object] = []
    for _ in range(levels):
        found = [found]
    return found


ODD: Final[dict[str, object]] = {
    "nul": {"a\0": "\0"},
    "surrogate": "\ud800",
    "nan": math.nan,
    "huge": "x" * (2 * 1024 * 1024),
    "deep": _deep(900),
    "integer": 10**400,
    "bytes": b"\xff\xfe",
    "object": object(),
    "raises": None,
}


@contextmanager
def witnessed(evidence: Path, execution: str, key: str, limit: int) -> Iterator[None]:
    """Hold the locks of one attempt, and write down each that is refused."""
    with ExitStack() as held:
        if not _locked(evidence / RUNS / execution, held):
            _write(evidence / NOTES, f"{OVERLAP} {execution}")
        if limit and not any(_locked(evidence / SLOTS / f"{key}.{number}", held) for number in range(limit)):
            _write(evidence / NOTES, f"{OVER} {key}")
        yield


def _locked(path: Path, held: ExitStack) -> bool:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    held.callback(os.close, file)
    return True


def _write(path: Path, line: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)
