"""Every status and every legal move, as data.

Law 2. Each move has one owner and one guarded statement: a status changes only from a legal source, under the attempt
that holds the fence. Terminal is final. Zero rows is a value ("somebody else already did it"), not an error.

The database guard is generated from TRANSITIONS by `guard_condition`, and so is the diagram in the documentation.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """Where an execution stands. *Why* it waits is never a status."""

    REQUESTED = "requested"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    SKIPPED = "skipped"


class Owner(StrEnum):
    """Who may make a move: the process that decides, or the process that does."""

    EXECUTOR = "executor"
    WORKER = "worker"


class Subject(StrEnum):
    """What moves: a leaf runs in a worker, a parent is driven by the executor."""

    LEAF = "leaf"
    PARENT = "parent"


class Transition(NamedTuple):
    """One legal move. `source` is None for a row that does not exist yet."""

    source: Status | None
    target: Status
    owner: Owner
    subject: Subject


OPEN = frozenset({Status.REQUESTED, Status.SCHEDULED, Status.RUNNING, Status.CANCELLING})
TERMINAL = frozenset(Status) - OPEN

_OUTCOMES = (Status.COMPLETED, Status.PARTIAL, Status.FAILED, Status.TIMED_OUT, Status.SKIPPED)
_DECIDED = (Status.CANCELLED, Status.TIMED_OUT, Status.FAILED)
_LEAF, _PARENT, _EXECUTOR, _WORKER = Subject.LEAF, Subject.PARENT, Owner.EXECUTOR, Owner.WORKER


def _moves(
    sources: tuple[Status | None, ...], targets: tuple[Status, ...], owner: Owner, *subjects: Subject
) -> frozenset[Transition]:
    return frozenset(
        Transition(source, target, owner, subject) for source in sources for target in targets for subject in subjects
    )


TRANSITIONS: frozenset[Transition] = (
    # Acceptance: waiting, at once, refused as a row, or cancelled by a tombstone that was waiting.
    _moves((None,), (Status.REQUESTED, Status.CANCELLED, Status.FAILED), _EXECUTOR, _LEAF, _PARENT)
    | _moves((None,), (Status.SCHEDULED,), _EXECUTOR, _LEAF)
    # Admission through both gates; a parent has none to pass but its keys.
    | _moves((Status.REQUESTED,), (Status.SCHEDULED,), _EXECUTOR, _LEAF)
    | _moves((Status.REQUESTED,), (Status.RUNNING,), _EXECUTOR, _PARENT)
    # Ended before it ran: cancel, a deadline, the action was withdrawn.
    | _moves((Status.REQUESTED,), _DECIDED, _EXECUTOR, _LEAF, _PARENT)
    | _moves((Status.SCHEDULED,), _DECIDED, _EXECUTOR, _LEAF)
    # Dispatched, but nobody started it.
    | _moves((Status.SCHEDULED,), (Status.REQUESTED,), _EXECUTOR, _LEAF)
    # The worker's own moves: claim, outcome, retry or hand-back.
    | _moves((Status.SCHEDULED,), (Status.RUNNING,), _WORKER, _LEAF)
    | _moves((Status.RUNNING,), (*_OUTCOMES, Status.REQUESTED), _WORKER, _LEAF)
    | _moves((Status.CANCELLING,), tuple(sorted(TERMINAL)), _WORKER, _LEAF)
    # A lost worker: again, or no loss left.
    | _moves((Status.RUNNING,), (Status.REQUESTED, Status.ABANDONED), _EXECUTOR, _LEAF)
    | _moves((Status.CANCELLING,), (Status.CANCELLED, Status.TIMED_OUT), _EXECUTOR, _LEAF)
    # Cancel reaches what runs.
    | _moves((Status.RUNNING,), (Status.CANCELLING,), _EXECUTOR, _LEAF, _PARENT)
    # Parents end by their counts, and may be restarted with a new epoch.
    | _moves((Status.RUNNING,), _OUTCOMES, _EXECUTOR, _PARENT)
    | _moves((Status.CANCELLING,), tuple(sorted(TERMINAL)), _EXECUTOR, _PARENT)
    | _moves(tuple(sorted(TERMINAL)), (Status.RUNNING,), _EXECUTOR, _PARENT)
)

_LEGAL = {(move.source, move.target, move.owner, move.subject) for move in TRANSITIONS}


def is_legal(source: Status | None, target: Status, owner: Owner, subject: Subject) -> bool:
    """Whether `owner` may move a `subject` from `source` (None: not there yet) to `target`."""
    return (source, target, owner, subject) in _LEGAL


def allowed_from(target: Status, owner: Owner, subject: Subject = Subject.LEAF) -> tuple[Status, ...]:
    """The statuses from which `owner` may move a `subject` to `target`, sorted: the guard of one statement."""
    return tuple(sorted(m.source for m in TRANSITIONS if m[1:] == (target, owner, subject) and m.source is not None))


def guard_condition() -> str:
    """SQL that is true for an illegal update of `execution.status`; the WHEN clause of the guard trigger.

    It names the legal pairs itself, so that the trigger's function runs only for a move that is refused: a look-up
    per row would cost more than the update.
    """
    arms = []
    for source in Status:
        leaf = sorted({m.target for m in TRANSITIONS if m.source == source and m.subject is Subject.LEAF})
        parent = sorted({m.target for m in TRANSITIONS if m.source == source and m.subject is Subject.PARENT})
        terms = [
            f"({guard} AND new.status IN ({', '.join(repr(str(t)) for t in targets)}))"
            for guard, targets in (("old.kind = 'action'", leaf), ("old.kind <> 'action'", parent))
            if targets
        ]
        arms.append(f"    WHEN '{source}' THEN {' OR '.join(terms) or 'false'}")
    return "NOT CASE old.status\n" + "\n".join(arms) + "\n    END"
