"""What was measured: named numbers of each round, their medians and ranges. Pure.

A name is `<what>.<measure>`: `p1.per_second`, `f1.p50_ms`, `p1.cpu_us.worker`, `peer.celery.per_second`.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Reading: TypeAlias = dict[str, float]
"""The numbers of one run of one thing, by name."""


def named(prefix: str, reading: Mapping[str, float]) -> Reading:
    """Put `prefix` in front of every name."""
    return {f"{prefix}.{name}": value for name, value in reading.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` (0 to 1) of all do not exceed. Raises ValueError for none."""
    if not values:
        raise ValueError("no values: nothing was measured")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Readings:
    """All rounds so far. Every round may add several readings, each name once."""

    def __init__(self, rounds: Mapping[str, Sequence[float]] | None = None) -> None:
        self._rounds: dict[str, list[float]] = {name: list(values) for name, values in (rounds or {}).items()}

    def add(self, reading: Reading) -> None:
        """Add what one run brought."""
        for name, value in reading.items():
            self._rounds.setdefault(name, []).append(value)

    @property
    def rounds(self) -> dict[str, list[float]]:
        """Each name with its value of every round, in order."""
        return {name: list(values) for name, values in self._rounds.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._rounds

    def __getitem__(self, name: str) -> float:
        """Return the median over the rounds. Raises KeyError for what was not measured."""
        return float(statistics.median(self._rounds[name]))

    def get(self, name: str) -> float | None:
        """Return the median over the rounds; None for what was not measured."""
        return self[name] if name in self._rounds else None

    def has(self, *names: str) -> bool:
        """Say whether all of these were measured."""
        return all(name in self._rounds for name in names)

    def spread(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest value over the rounds."""
        return min(self._rounds[name]), max(self._rounds[name])

    def ratio(self, name: str, other: str) -> float:
        """Return the median of one over the median of the other; infinite over nothing."""
        return self[name] / self[other] if self[other] else math.inf

    def named(self, prefix: str) -> list[str]:
        """Return the second parts of all names `<prefix>.<part>` or `<prefix>.<part>.<more>`, in order."""
        parts = (
            name.removeprefix(f"{prefix}.").split(".")[0] for name in self._rounds if name.startswith(f"{prefix}.")
        )
        return list(dict.fromkeys(parts))
