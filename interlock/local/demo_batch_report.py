"""The figures of the batch's demonstration, and what each must be. Measures nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Final

MEANING: Final = {
    "partitions": "one for each user and day",
    "status": "how the batch ended",
    "completed": "partitions that kept a total",
    "skipped": "partitions without orders",
    "failed": "partitions that ended in any other way",
    "wrong_totals": "users and days whose total is not what a direct query finds",
    "counter_drift": "how far the batch's counters are from its rows",
    "lost": "partitions that were wanted and have not ended",
    "doctor_violations": "rows that break an invariant",
    "seconds": "from the request to the end of the batch",
}
ZEROES: Final = ("failed", "wrong_totals", "counter_drift", "lost", "doctor_violations")
FIRST_DAY: Final = date(2026, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How much the batch has to do: a total for each of so many users and days."""

    users: int
    days: int

    @property
    def partitions(self) -> int:
        """How many partitions that makes."""
        return self.users * self.days

    @property
    def names(self) -> list[str]:
        """The users."""
        return [f"user-{number:03}" for number in range(1, self.users + 1)]

    @property
    def last_day(self) -> date:
        """The last of the days."""
        return FIRST_DAY + timedelta(days=self.days - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFigures:
    """What the demonstration measured; see MEANING."""

    partitions: int
    status: str
    completed: int
    skipped: int
    failed: int
    wrong_totals: int
    counter_drift: int
    lost: int
    doctor_violations: int
    seconds: float

    def values(self) -> dict[str, float | str]:
        """Return the figures by name, in the order in which they are shown."""
        return asdict(self)

    def meaning(self) -> dict[str, str]:
        """Say in words what each figure is."""
        return MEANING

    def wanted(self) -> dict[str, str]:
        """Say what each figure must be, in words; those that may be anything are left out."""
        rest = f"{self.partitions - self.skipped}"
        return {"status": "completed", "completed": rest, "skipped": "> 0", **dict.fromkeys(ZEROES, "0")}

    def wrong(self) -> list[str]:
        """Name the figures that are not as they must be."""
        wrong = [name for name in ZEROES if getattr(self, name) != 0]
        if self.status != "completed":
            wrong.append("status")
        if self.completed == 0 or self.completed != self.partitions - self.skipped:
            wrong.append("completed")
        if self.skipped == 0:
            wrong.append("skipped")
        return wrong
