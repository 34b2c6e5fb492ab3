"""Whether what was measured over a soak stayed flat: series in, judgements out. Pure.

After a warm-up the median of the last third is held against that of the first: a median does not see a burst, and two
far apart see anything that grows with the work. How much more it may be is said for each measure, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WARM_UP: Final = 0.2
"""The share of the samples that are not judged: pools fill, caches warm, the allocator takes what it keeps."""
FEWEST: Final = 9
"""Samples that must be left for a judgement: three in each third."""


class Bound(NamedTuple):
    """The last third may exceed the first by this share of it and by this much, and why that is not a leak."""

    share: float
    slack: float
    reason: str


BOUNDS: Final[Mapping[str, Bound]] = {
    "rss_mb": Bound(
        0.05,
        4.0,
        "the allocator takes memory in steps; half a kilobyte lost an execution is more in an hour",
    ),
    "fds": Bound(0.1, 6.0, "a running command has pipes, a pool opens connections as it needs them"),
    "threads": Bound(0.0, 2.0, "threads are started as they are needed and kept"),
    "tasks": Bound(0.25, 10.0, "each running execution and each message under way is a task"),
    "rows": Bound(1.0, 100.0, "what is on its way follows the load from moment to moment"),
    "dead_rows": Bound(1.0, 20_000.0, "dead rows pile up between two rounds of the vacuum, a minute apart"),
    "size_mb": Bound(0.5, 16.0, "a table keeps the room that its busiest moment took"),
}
"""How much each measure may grow, by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What was measured of one thing, in the order of time."""

    measure: str
    of: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What came of one series: where it began, where it ended, and how far up that might have been."""

    measure: str
    of: str
    first: float
    last: float
    most: float
    good: bool


def judge(series: Series, bound: Bound) -> Judgement:
    """Hold the last third against the first; too few samples are no proof, whatever they say."""
    warm = series.values[int(len(series.values) * WARM_UP) :]
    third = len(warm) // 3
    if len(warm) < FEWEST:
        return Judgement(measure=series.measure, of=series.of, first=0, last=0, most=0, good=False)
    first, last = median(warm[:third]), median(warm[-third:])
    most = first * (1 + bound.share) + bound.slack
    return Judgement(measure=series.measure, of=series.of, first=first, last=last, most=most, good=last <= most)


def never_above(series: Series, most: float) -> Judgement:
    """Hold every sample, those of the warm-up included, against a limit that must be kept exactly."""
    highest = max(series.values, default=most + 1)
    first = series.values[0] if series.values else 0
    return Judgement(measure=series.measure, of=series.of, first=first, last=highest, most=most, good=highest <= most)
