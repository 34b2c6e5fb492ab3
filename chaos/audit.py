"""Judges a trial from what was asked, the history, what a subscriber heard and what the actions wrote down. Pure.

Trusts no status, no counter and no check of the product: each figure is worked out anew from rows that were only added.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any, Final

from chaos.actions import OVER, OVERLAP
from chaos.batch_audit import object_to
from chaos.batch_kinds import AskedBatch
from chaos.figures import Figures
from interlock.contract.status import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from uuid import UUID

    from chaos.batch_audit import Call, Told
    from chaos.batch_kinds import Child
    from chaos.ear import Fact
    from chaos.flavours import Asked

HOLDING: Final = frozenset({"scheduled", "running", "cancelling"})
COMPLETED: Final = "execution.completed"
STATUS_CHANGED: Final = "execution.status_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One row of `execution_transition`; `at` is in seconds of the epoch."""

    execution_id: UUID
    move: int
    position: int
    source: str | None
    target: str
    attempt: int
    epoch: int
    actor: str
    lane_id: int | None
    seq: int | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """An attempt that went with its worker, and when the worker's lease ended, in seconds of the epoch."""

    execution_id: UUID
    attempt: int
    lease_end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """A killed worker, and when, in seconds of the epoch. `publishing`: it may have held the messages of others."""

    worker: UUID
    at: float
    publishing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything that is known of a trial that is over. `forgiven` are executions whose events went with the broker.

    What batches made is in `asked`, too, and in `children`; `told` is what they say of themselves, `calls` are the runs
    of their callbacks. `ahead` is by how many seconds the database's clock is ahead of that of the facts.
    """

    asked: Sequence[Asked]
    moves: Sequence[Move]
    facts: Mapping[str, Fact]
    contradictions: Sequence[str] = ()
    notes: Sequence[str] = ()
    losses: Sequence[Loss] = ()
    crashes: Sequence[Crash] = ()
    ahead: float = 0.0
    lease: float = 25.0
    results_twice: int = 0
    drift: int = 0
    leaked_s: float = 0.0
    dead_letters: Sequence[str] = ()
    forgiven: Collection[UUID] = ()
    children: Sequence[Child] = ()
    told: Mapping[UUID, Told] = field(default_factory=dict)
    calls: Sequence[Call] = ()


def audit(material: Material) -> Figures:
    """Return the figures of a trial."""
    history: dict[UUID, list[Move]] = defaultdict(list)
    for move in sorted(material.moves, key=lambda move: move.move):
        history[move.execution_id].append(move)
    missing, extra = events(material, history)
    batches = object_to(material, history)
    noted = Counter(line.split(" ", 1)[0] for line in material.notes)
    return Figures(
        executions=len(material.asked),
        lost=len(lost(material, history)),
        finished_twice=finished_twice(history.values()) + material.results_twice,
        events_missing=len(missing),
        events_extra=len(extra),
        over_admitted=noted[OVER] + sum(beyond(material.asked, material.moves).values()),
        overlap=noted[OVERLAP],
        fifo_inversions=inversions(material.moves),
        counter_drift=material.drift,
        leaked_slot_max_s=round(material.leaked_s, 2),
        recovery_p99_s=round(percentile(recoveries(material, history), 0.99), 2),
        event_after_crash_max_s=round(max(silences(material, history), default=0.0), 2),
        dead_letters=len(material.dead_letters),
        batches=sum(isinstance(asked, AskedBatch) for asked in material.asked),
        batches_open=len(batches.still_open),
        wrong_counts=len(batches.counts),
        wrong_outcomes=len(batches.outcomes),
        wrong_callbacks=len(batches.callbacks),
    )


def lost(material: Material, history: Mapping[UUID, Sequence[Move]]) -> list[str]:
    """Return what was asked and did not end as it may, one line each."""
    found = []
    for asked in material.asked:
        moves = history.get(asked.id, ())
        end = moves[-1].target if moves else "never accepted"
        if end not in asked.ends:
            found.append(f"{asked.id} ({asked.flavour}): {end}")
    return found


def finished_twice(history: Iterable[Sequence[Move]]) -> int:
    """Count ends beyond the first of each execution and epoch, and moves after an end."""
    count = 0
    for moves in history:
        ends = Counter(move.epoch for move in moves if move.target in TERMINAL)
        count += sum(number - 1 for number in ends.values())
        count += sum(
            before.target in TERMINAL and after.target not in TERMINAL and before.epoch == after.epoch
            for before, after in pairwise(moves)
        )
    return count


def events(material: Material, history: Mapping[UUID, Sequence[Move]]) -> tuple[list[str], list[str]]:
    """Return the ids of events that were never heard, and of those that say what was never committed."""
    wanted: dict[str, Mapping[str, Any]] = {}
    for identity, moves in history.items():
        for move in moves:
            wanted |= _announced(str(identity), move)
    ours = {str(identity) for identity in history} | {str(asked.id) for asked in material.asked}
    forgiven = {str(identity) for identity in material.forgiven}
    missing = [each for each in wanted if each not in material.facts and each.partition("/")[0] not in forgiven]
    extra = [
        identity
        for identity, fact in material.facts.items()
        if fact.subject in ours and not _is_so(wanted.get(identity), fact.data)
    ]
    contradicted = [each for each in material.contradictions if each.partition("/")[0] in ours]
    return missing, [*extra, *contradicted]


def _announced(identity: str, move: Move) -> dict[str, Mapping[str, Any]]:
    """Return the events that the contract promises for one move, by id, with what each must say."""
    found: dict[str, Mapping[str, Any]] = {}
    ended = move.target in TERMINAL
    said = {"id": identity, "attempt": move.attempt, "epoch": move.epoch}
    if ended or (move.source is not None and move.target != "scheduled"):
        found[f"{identity}/{move.epoch}/{move.move}"] = {**said, "from": move.source, "to": move.target}
    if ended:
        found[f"{identity}/{move.epoch}/completed"] = {**said, "status": move.target}
    return found


def _is_so(wanted: Mapping[str, Any] | None, data: Mapping[str, Any]) -> bool:
    return wanted is not None and all(data.get(name) == value for name, value in wanted.items())


def beyond(asked: Iterable[Asked], moves: Iterable[Move]) -> dict[str, int]:
    """Return by how many each limited key was exceeded at its worst moment.

    A move out of a slot is written before the slot can come back: this count is never above what was held in truth.
    """
    limits = {each.id: each.limits for each in asked}
    held: Counter[str] = Counter()
    worst: dict[str, int] = {}
    for move in sorted(moves, key=lambda move: move.position):
        step = int(move.target == "scheduled") - int(move.source in HOLDING and move.target not in HOLDING)
        for name, limit in limits.get(move.execution_id, ()):
            held[name] += step
            if held[name] > limit:
                worst[name] = max(worst.get(name, 0), held[name] - limit)
    return worst


def inversions(moves: Iterable[Move]) -> int:
    """Count admissions out of a lane that came after that of a later place."""
    newest: dict[int, int] = {}
    count = 0
    for move in sorted(moves, key=lambda move: move.position):
        if move.target == "scheduled" and move.lane_id is not None and move.seq is not None:
            count += move.seq < newest.get(move.lane_id, move.seq)
            newest[move.lane_id] = max(move.seq, newest.get(move.lane_id, move.seq))
    return count


def recoveries(material: Material, history: Mapping[UUID, Sequence[Move]]) -> list[float]:
    """Return for each loss the seconds from its worker's last renewal until work went on: more than since its death.

    It goes on with the next claim; where keys are limited, or batches ask for more than can run at once, with a new
    place in the queue: the turn is others' then.
    """
    crowded = any(isinstance(asked, AskedBatch) for asked in material.asked)
    limited = {asked.id for asked in material.asked if asked.limits or crowded}
    found = []
    for loss in material.losses:
        begun = loss.lease_end - material.lease
        targets = {"requested"} if loss.execution_id in limited else {"running"}
        later = [
            move.at
            for move in history.get(loss.execution_id, ())
            if move.target in TERMINAL
            or (move.target in targets and (move.attempt > loss.attempt or move.source == "running"))
        ]
        found += [min(at for at in later if at >= begun) - begun] if any(at >= begun for at in later) else []
    return found


def silences(material: Material, history: Mapping[UUID, Sequence[Move]]) -> list[float]:
    """Return for each end that a crashed worker had written the seconds until it was heard of.

    They count from the end itself, which was before the crash; or from the last crash of a worker that may have been
    about to tell of it.
    """
    crashed = {f"/worker/{crash.worker}" for crash in material.crashes}
    starts = [crash.at for crash in material.crashes if crash.publishing]
    found = []
    for identity, moves in history.items():
        for move in moves:
            fact = material.facts.get(f"{identity}/{move.epoch}/completed")
            if fact is not None and move.target in TERMINAL and move.actor in crashed:
                heard = fact.at + material.ahead
                begun = max([move.at, *(at for at in starts if at <= heard)])
                found.append(max(0.0, heard - begun))
    return found


def percentile(values: Collection[float], share: float) -> float:
    """Return the smallest of `values` that at least this share of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[ceil(share * len(ordered)) - 1] if ordered else 0.0
