"""What a function action may return besides a plain JSON value, what it may raise, and what it may ask of its context.

Pure: stdlib only, imported by users' own modules. Judging and storing what was returned is the worker's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Context(Protocol):
    """What a function gets when it has a parameter named `context`."""

    @property
    def execution_id(self) -> str:
        """The execution's id, the same for every attempt."""

    @property
    def attempt(self) -> int:
        """The fence: higher for each attempt. Hand it to remote systems so that they can refuse an older one."""

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked this execution to stop; a function in a thread looks at it between its steps."""

    def log(self, line: str) -> None:
        """Add a line to the execution's log, from any thread. Beyond the log's limits lines are dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """A result of which some items did not succeed; made by `partial`."""

    result: object
    items: dict[str, int]
    retry: tuple[object, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """The choice not to run; made by `skip`."""

    reason: str


def partial(
    result: object,
    *,
    total: int | None = None,
    completed: int | None = None,
    failed: int | None = None,
    skipped: int | None = None,
    retry: Sequence[object] | None = None,
) -> Partial:
    """Return this from a function to end as `partial`.

    `result` is any JSON value. The counts are items, each at least 0 and together at most `total`; leave out what is
    not known. `retry` lists what a restart should take up again. Raises ValueError for counts that cannot be.
    """
    given = {"total": total, "completed": completed, "failed": failed, "skipped": skipped}
    items = {name: count for name, count in given.items() if count is not None}
    for name, count in items.items():
        if count < 0:
            raise ValueError(f"partial(): {name} is {count}; a count is at least 0")
    ended = sum(count for name, count in items.items() if name != "total")
    if total is not None and ended > total:
        raise ValueError(f"partial(): completed, failed and skipped are {ended} together, more than the total {total}")
    return Partial(result=result, items=items, retry=None if retry is None else tuple(retry))


class RetryAfter(Exception):
    """Raise this from a function: the attempt failed, and the next one is to begin in `seconds`.

    It is made if the action's `retry` has an attempt left, whatever error classes it names, and waits no longer than
    its `max_delay`. Raises ValueError for what is no length of time.
    """

    def __init__(self, seconds: float, reason: str = "asked for another attempt later") -> None:
        if not (0 <= seconds < float("inf")):
            raise ValueError(f"RetryAfter(): {seconds} is no length of time; give seconds, 0 or more")
        super().__init__(reason)
        self.seconds = float(seconds)


def skip(reason: str) -> Skip:
    """Return this from a function to end as `skipped`; `reason` says why, for people."""
    return Skip(reason=reason)
