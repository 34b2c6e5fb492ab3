"""Fault points: the named steps at which a process may be made to crash, stop, wait or fail, and how that is written.

Pure data and its reader. Who is armed and what happens then is the business of `interlock.adapters.faults`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from interlock.contract.suggestions import did_you_mean


class Point(NamedTuple):
    """One step: which processes pass it, what has just happened, and what a crash here leaves to whom.

    `can_fail` says whether a lost connection could be met here: only then may an error be armed.
    """

    name: str
    process: str
    happened: str
    crash: str
    can_fail: bool = True


FLOWS: Final = ("requests", "status_changed", "completed", "dead")
"""The queues that executors consume; each has the same steps, under its own name."""

_NOTHING: Final = "nothing: the broker delivers again"
_FLUSH: Final[dict[str, tuple[str, str, bool]]] = {
    "taken": ("messages were taken from the queue", _NOTHING, False),
    "handled": ("the statements of the flush are done, its connection is not given back", _NOTHING, True),
    "committed": (
        "the flush is committed, its messages are not offered to the relay",
        "the sweep publishes, the broker delivers again, and handling twice changes nothing",
        True,
    ),
    "offered": ("all is committed and offered, nothing acknowledged", "delivered again, which changes nothing", False),
    "acknowledged": ("the messages are acknowledged", "the sweep publishes what was offered and not published", False),
}
_UNPUBLISHED: Final = "the sweep of any executor publishes"

POINTS: Final[tuple[Point, ...]] = (
    *(Point(f"{flow}.{step}", "executor", *told) for flow in FLOWS for step, told in _FLUSH.items()),
    Point("admission.committed", "executor", "one more admission of what was owed is committed", _UNPUBLISHED),
    Point("timers.read", "executor", "due timers and owed keys are read", "nothing: any executor reads them again"),
    Point("timers.fired", "executor", "what fell due is moved and committed", _UNPUBLISHED),
    Point("timers.admitted", "executor", "owed keys have admitted, committed", _UNPUBLISHED),
    Point("reconciler.read", "executor", "leaks are found", "nothing: any executor finds them again"),
    Point("reconciler.claims_admitted", "executor", "room under claims is given away, committed", _UNPUBLISHED),
    Point("reconciler.slots_released", "executor", "leaked slots are released, committed", _UNPUBLISHED),
    Point("reconciler.cancels_honoured", "executor", "late cancels are honoured, committed", _UNPUBLISHED),
    Point(
        "reconciler.batch_driven", "executor", "a batch in which nothing happened is driven on, committed", _UNPUBLISHED
    ),
    Point("reaper.read", "executor", "what expired leases hold is read", "nothing: any executor reads it again"),
    Point("reaper.moved", "executor", "what was lost is moved on, committed", _UNPUBLISHED),
    Point("reaper.closed", "executor", "the rows of lost workers are closed, committed", "nothing"),
    Point("relay.publishing", "both", "a batch is about to be published", "the sweep publishes it", can_fail=False),
    Point("relay.confirmed", "both", "the broker confirmed a batch", "the sweep publishes it a second time"),
    Point("relay.deleted", "both", "a confirmed batch is deleted from the outbox", "nothing"),
    Point("sweep.claimed", "both", "the sweep has marked rows as its own", "swept again when the mark ends, after 2 s"),
    Point("worker.registered", "worker", "its row is written, no renewal was sent", "the lease ends", can_fail=False),
    Point("claim.taken", "worker", "a claim is about to be made", "nothing: offered or found again"),
    Point("claim.committed", "worker", "a claim is committed, nothing is started", "the lease ends: run elsewhere"),
    Point("claim.started", "worker", "what was claimed is started, its message not acknowledged", "the lease ends"),
    Point("claim.acknowledged", "worker", "the dispatch message is acknowledged", "the lease ends", can_fail=False),
    Point("execution.started", "worker", "the story of one execution begins", "the lease ends", can_fail=False),
    Point("execution.ended", "worker", "an action ended, its end is with nobody", "it is run again", can_fail=False),
    Point("plan.committed", "worker", "a chunk of a batch's partitions is committed", "planned on by another attempt"),
    Point("finish.taken", "worker", "ends are about to be written", "the lease ends: they are run again"),
    Point("finish.committed", "worker", "ends are committed, their messages not offered", "a worker's sweep publishes"),
    Point("finish.offered", "worker", "ends are committed and offered", "a worker's sweep publishes"),
    Point("lease.renewing", "worker", "a renewal is about to be sent", "the lease ends"),
    Point("lease.renewed", "worker", "the lease is renewed, the guardian was not told", "the lease ends"),
    Point("drain.begun", "worker", "a drain began: nothing is consumed any more", "the lease ends", can_fail=False),
    Point("drain.told", "worker", "the worker's row says that it drains", "the lease ends"),
    Point("drain.claimed", "worker", "no claim is under way any more", "the lease ends", can_fail=False),
    Point("drain.emptied", "worker", "nothing is held any more", "a worker's sweep publishes", can_fail=False),
    Point("retire.flushed", "worker", "log lines and messages are flushed", "the row is closed when its lease ends"),
    Point("retire.committed", "worker", "the worker's row is closed", "nothing"),
    Point("accept.committed", "client", "requests are accepted, nobody was told", "a repeat is answered by their rows"),
)
"""Every step, in the order in which the page about them lists it."""

_BY_NAME: Final = {point.name: point for point in POINTS}


class Action(StrEnum):
    """What a process does to itself at an armed point."""

    CRASH = "crash"
    """SIGKILL, at once."""
    STOP = "stop"
    """SIGSTOP: it hangs with all its connections until somebody sends SIGCONT."""
    DELAY = "delay"
    """This one step waits; everything else in the process goes on."""
    ERROR = "error"
    """What a lost connection would raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One armed point: at its pass number `first`, and from there at every `step`th (0: never again)."""

    point: str
    action: Action
    seconds: float = 0.0
    first: int = 1
    step: int = 0

    def strikes(self, number: int) -> bool:
        """Whether it strikes at this pass, counted from 1."""
        behind = number - self.first
        return behind == 0 or (self.step > 0 and behind > 0 and behind % self.step == 0)

    def __str__(self) -> str:
        action = f"{self.action}:{self.seconds:g}" if self.action is Action.DELAY else str(self.action)
        when = {0: f"{self.first}", 1: f"{self.first}+"}.get(self.step, f"every:{self.step}")
        return f"{self.point}={action}@{when}"


FORM: Final = "POINT=crash|stop|error|delay:SECONDS, then @N (the Nth pass), @N+ (from the Nth on) or @every:N"
_FORM: Final = re.compile(
    r"(?P<point>[^=\s]+)=(?P<action>[a-z]+)(?::(?P<seconds>\d+(?:\.\d+)?))?"
    r"(?:@(?:every:(?P<every>[1-9]\d*)|(?P<nth>[1-9]\d*)(?P<on>\+)?))?",
    re.ASCII,
)


def read_fault(text: str) -> Fault:
    """Read one fault, such as `finish.committed=crash@3`. Raises ValueError, which says what would be right."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a fault: write {FORM}")
    point = _BY_NAME.get(found["point"])
    if point is None:
        raise ValueError(f"no fault point is called {found['point']!r}{did_you_mean(found['point'], _BY_NAME)}")
    if found["action"] not in set(Action):
        raise ValueError(f"a fault point cannot {found['action']!r}: write {FORM}")
    action = Action(found["action"])
    if (action is Action.DELAY) != (found["seconds"] is not None):
        raise ValueError(f"{text!r}: seconds belong to a delay, and to nothing else: write {FORM}")
    if action is Action.ERROR and not point.can_fail:
        raise ValueError(f"{text!r}: no connection can be lost at this point, so no error can be armed there")
    every, first = int(found["every"] or 0), int(found["nth"] or 1)
    return Fault(
        point=point.name,
        action=action,
        seconds=float(found["seconds"] or 0),
        first=every or first,
        step=every or (1 if found["on"] else 0),
    )
