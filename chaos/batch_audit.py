"""Judges the batches of a trial from how they were to be cut, the history, their own counters and who was called. Pure.

Works out the outcome anew, from the words of the documentation: it shares no rule with the executors.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from chaos.batch_kinds import PLAN, AskedBatch
from interlock.contract.batches import COUNTED
from interlock.contract.status import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from chaos.audit import Material, Move
    from chaos.batch_kinds import Child, Policy

FAILURES = ("failed", "timed_out", "abandoned")


class Told(NamedTuple):
    """What a batch tells about itself: its counters, and those that its result repeats."""

    row: Mapping[str, int]
    result: Mapping[str, int]


class Call(NamedTuple):
    """One run of a callback, as it wrote it down itself."""

    batch: str
    epoch: int
    event: str
    execution: str
    attempt: int

    @classmethod
    def read(cls, line: str) -> Call:
        """Read one line of those that `called` writes."""
        batch, epoch, event, execution, attempt = line.split(" ")
        return cls(batch, int(epoch), event, execution, int(attempt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Objections:
    """What is wrong with batches, one line each."""

    still_open: list[str] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    callbacks: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.still_open or self.counts or self.outcomes or self.callbacks)


class _Standing(NamedTuple):
    """One batch at rest, by its history alone: its end, what it made, and what happened to it in which epoch.

    `keys` and `counts` are of its present partitions, and `plan` is the end of its present planning: what a restart
    replaced is history.
    """

    asked: AskedBatch
    epoch: int
    end: str
    keys: list[str]
    counts: Counter[str]
    plan: str | None
    callbacks: list[str]
    happened: frozenset[tuple[int, str]]

    @property
    def planned(self) -> bool:
        """Whether its partitions were made: so few are made all at once, or none; but a restart leaves some."""
        if self.epoch > 1:
            return len(self.keys) == len(self.asked.partitions)
        return bool(self.keys) or not self.asked.partitions

    @property
    def well_cut(self) -> bool:
        """Whether its partitions are those that it was cut into; none, where it was stopped before they were made."""
        if self.planned:
            return sorted(self.keys) == sorted(self.asked.partitions)
        return self.asked.stopped is not None or self.plan == "abandoned"


def object_to(material: Material, history: Mapping[UUID, Sequence[Move]]) -> Objections:
    """Return what is wrong with the batches of a trial."""
    found = Objections()
    children: dict[UUID, list[Child]] = defaultdict(list)
    for child in material.children:
        children[child.batch].append(child)
    calls: dict[str, list[Call]] = defaultdict(list)
    for call in material.calls:
        calls[call.batch].append(call)
    for asked in material.asked:
        if isinstance(asked, AskedBatch):
            standing = _standing(asked, children[asked.id], history)
            _judge(standing, material.told.get(asked.id), calls[str(asked.id)], found)
    return found


def _standing(asked: AskedBatch, children: Sequence[Child], history: Mapping[UUID, Sequence[Move]]) -> _Standing:
    def end(identity: UUID) -> str:
        moves = history.get(identity, ())
        return moves[-1].target if moves else "never accepted"

    moves = history.get(asked.id, ())
    epoch = moves[-1].epoch if moves else 1
    partitions = [child for child in children if child.key not in {None, PLAN}]
    present = [child for child in partitions if not child.superseded]
    return _Standing(
        asked=asked,
        epoch=epoch,
        end=end(asked.id),
        keys=[child.key or "" for child in present],
        counts=Counter(end(child.id) for child in present),
        plan=next((end(child.id) for child in children if child.key == PLAN and child.epoch == epoch), None),
        callbacks=[end(child.id) for child in children if child.key is None],
        happened=frozenset(_happened(moves))
        | {(child.epoch, "first_failure") for child in partitions if end(child.id) in FAILURES},
    )


def _happened(moves: Sequence[Move]) -> Iterator[tuple[int, str]]:
    for move in moves:
        if move.target == "running":
            yield move.epoch, "started"
        if move.target in TERMINAL:
            yield move.epoch, "finished"
            yield move.epoch, move.target


def _judge(standing: _Standing, told: Told | None, calls: Sequence[Call], found: Objections) -> None:
    name = f"{standing.asked.id} ({standing.asked.flavour})"
    if standing.end not in TERMINAL:
        found.still_open.append(f"{name}: {standing.end}, {dict(standing.counts)}")
        return  # its counts are on their way, and nothing else is due yet
    counts = {"total": len(standing.keys), **{each: standing.counts[each] for each in COUNTED}}
    # What was cancelled before it came has no result.
    result = counts if (1, "started") in standing.happened else {}
    if told is None or told.row != counts or told.result != result or not standing.well_cut:
        found.counts.append(f"{name}: {counts} of {sorted(standing.asked.partitions)}, but tells {told}")
    may = due(standing.asked, standing.counts, planned=standing.planned, plan=standing.plan)
    if standing.end not in may:
        found.outcomes.append(f"{name}: {standing.end}, not {sorted(may)}, of {dict(standing.counts)}")
    found.callbacks.extend(f"{name}: {wrong}" for wrong in _wrong_calls(standing, calls))


def due(asked: AskedBatch, counts: Mapping[str, int], *, planned: bool, plan: str | None) -> set[str]:
    """Return how a batch may end: by its counts, unless it was stopped before all had ended by itself."""
    if planned and not counts.get("cancelled"):
        return {outcome(counts, asked.policy)}
    failures = sum(counts.get(name, 0) for name in FAILURES)
    fast = asked.policy.fail_fast
    most = fast if fast is None or fast >= 1 else fast * len(asked.partitions)
    given_up = (plan == "abandoned" and not planned) or (most is not None and failures >= most)
    return {each for each in (asked.stopped, "failed" if given_up else None) if each is not None}


def outcome(counts: Mapping[str, int], policy: Policy) -> str:
    """Return how a batch ends that nobody stopped: the first rule that fits decides."""
    total = sum(counts.values())
    completed = counts.get("completed", 0)
    if total == 0:
        return "failed" if policy.fail_on_empty else "completed"
    if completed + counts.get("skipped", 0) == total:
        return "completed"
    if completed + counts.get("partial", 0) == 0 or completed / total < policy.partial_min:
        return "failed"
    failures = sum(counts.get(name, 0) for name in FAILURES)
    return "partial" if policy.max_failed is None or failures <= policy.max_failed else "failed"


def _wrong_calls(standing: _Standing, calls: Sequence[Call]) -> list[str]:
    """Each event of each epoch is told by exactly one execution, at most once in each of its attempts; nothing else is.

    A callback that lost its workers too often may never have run.
    """
    wanted = {(epoch, event) for epoch, event in standing.happened if event in standing.asked.events}
    told: dict[tuple[int, str], set[str]] = defaultdict(set)
    for call in calls:
        told[call.epoch, call.event].add(call.execution)
    excused = standing.callbacks.count("abandoned")
    found = [f"{event} of epoch {epoch} was not told" for epoch, event in sorted(wanted - told.keys())][excused:]
    found += [f"{event} of epoch {epoch} did not happen" for epoch, event in sorted(told.keys() - wanted)]
    found += [f"{key[1]} was told by {len(told[key])} executions" for key in sorted(wanted) if len(told[key]) > 1]
    found += [f"{call} ran twice" for call, number in Counter(calls).items() if number > 1]
    more = len(standing.callbacks) - len(wanted | told.keys())
    return [*found, *(["more callbacks were asked for than there are events"] if more > 0 else [])]
