"""The figures of a trial, what each means, and how high each may be. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MEANING: Final = {
    "executions": "asked for, with all that batches made",
    "lost": "did not end, or ended as their requests cannot end",
    "finished_twice": "ended more than once in an epoch, or have two results",
    "events_missing": "events of committed moves that a subscriber never heard",
    "events_extra": "events that say what was never committed, or two things under one id",
    "over_admitted": "held a slot beyond the limit of a key",
    "overlap": "attempts that ran while another one of their execution did",
    "fifo_inversions": "left their lane after one that had entered it later",
    "counter_drift": "difference between counters and rows, and rows that break an invariant",
    "leaked_slot_max_s": "longest time in which something that had ended held a slot",
    "recovery_p99_s": "from the last renewal of a lost worker until its work went on",
    "event_after_crash_max_s": "from the crash of a worker until what it had ended was heard of",
    "dead_letters": "messages put aside that the trial did not spoil itself",
    "batches": "of what was asked for",
    "batches_open": "did not end",
    "wrong_counts": "have other partitions than they were cut into, or counters that are not their counts",
    "wrong_outcomes": "ended in another way than their counts say",
    "wrong_callbacks": "calls that are missing, come twice, or tell what did not happen",
}
SIZES: Final = ("executions", "batches")
"""How much there was to judge: no figure that may be too high."""
LEAK_SECONDS: Final = 10.0
EVENT_SECONDS: Final = 3.0
RECOVERY_MARGIN: Final = 10.0
"""What may pass beyond the lease until the work of a lost worker goes on: with the default lease, 35 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one trial measured; see MEANING."""

    executions: int = 0
    lost: int = 0
    finished_twice: int = 0
    events_missing: int = 0
    events_extra: int = 0
    over_admitted: int = 0
    overlap: int = 0
    fifo_inversions: int = 0
    counter_drift: int = 0
    leaked_slot_max_s: float = 0.0
    recovery_p99_s: float = 0.0
    event_after_crash_max_s: float = 0.0
    dead_letters: int = 0
    batches: int = 0
    batches_open: int = 0
    wrong_counts: int = 0
    wrong_outcomes: int = 0
    wrong_callbacks: int = 0

    def as_dict(self) -> dict[str, int | float]:
        """Return them by name, in their order."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """How high the figures that are not counts may be, in seconds; every count must be 0."""

    leaked_slot_max_s: float = LEAK_SECONDS
    recovery_p99_s: float
    event_after_crash_max_s: float = EVENT_SECONDS

    def broken(self, figures: Figures) -> list[str]:
        """Name the figures that are too high, with what they are and what they may be."""
        measured = figures.as_dict()
        limits = {name: 0.0 for name in measured if name not in SIZES} | asdict(self)
        return [
            f"{name} is {measured[name]:g}, may be {limits[name]:g}" for name in limits if measured[name] > limits[name]
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one scenario: its figures, the bars they broke, what else was wrong, and why it was not run."""

    name: str
    figures: Figures = field(default_factory=Figures)
    broken: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing was wrong."""
        return not self.broken and not self.complaints


def total(verdicts: Iterable[Verdict]) -> Figures:
    """Add what is counted, and take the worst of what is measured."""
    all_figures = [verdict.figures.as_dict() for verdict in verdicts]
    joined: dict[str, int | float] = {}
    for each in fields(Figures):
        values = [figures[each.name] for figures in all_figures]
        joined[each.name] = max(values, default=0.0) if each.name.endswith("_s") else sum(values)
    return Figures(**joined)  # type: ignore[arg-type]  # by name, each with the type it came with


def document(verdicts: Iterable[Verdict], seed: int, naive: Iterable[Verdict] = ()) -> dict[str, object]:
    """Return everything for a program: the totals under their names, each scenario's own, and the seed.

    The toy's figures are under `naive`, where it was run, and in no total.
    """
    found = list(verdicts)
    scenarios: Mapping[str, object] = {
        verdict.name: {
            **verdict.figures.as_dict(),
            "seconds": round(verdict.seconds, 1),
            "broken": list(verdict.broken),
            "complaints": list(verdict.complaints),
            "skipped": verdict.skipped,
        }
        for verdict in found
    }
    toy = {verdict.name: verdict.figures.as_dict() for verdict in naive}
    beside: Mapping[str, object] = {"naive": toy} if toy else {}
    return {**total(found).as_dict(), "scenarios": scenarios, "seed": seed, **beside}
