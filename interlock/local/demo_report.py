"""The demo's verdict: its figures, what each must be, and the proof in words. Measures nothing, except log files."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Protocol

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

LOUD: Final = frozenset({"warning", "error", "critical"})
ANNOUNCEMENT: Final = "worker lost"
FEWEST: Final = 300
MEANING: Final = {
    "executions": "requested, each with an id of its own",
    "completed": "ended as completed",
    "failed": "ended in any other way, or not at all",
    "completed_events": "different execution.completed that a subscriber heard",
    "duplicates_injected": "events that were sent a second time",
    "unchanged_writes": "updates that set what was there already",
    "warnings": "lines of the executors at warning or above, but for the killed worker's",
    "slots_held": "slots still held at the end",
    "over_limit": "executions of checksum beyond its limit, at the worst moment",
    "wrong_results": "results that differ from what was computed directly",
    "doctor_violations": "rows that break an invariant",
    "seconds": "from the first request to the last end",
}


class Measured(Protocol):
    """Figures that can be shown and judged."""

    def values(self) -> Mapping[str, float | str]:
        """Return the figures by name, in the order in which they are shown."""

    def meaning(self) -> Mapping[str, str]:
        """Say in words what each figure is."""

    def wanted(self) -> Mapping[str, str]:
        """Say what each figure must be, in words; those that may be anything are left out."""

    def wrong(self) -> list[str]:
        """Name the figures that are not as they must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the demo measured; see MEANING."""

    executions: int
    completed: int
    failed: int
    completed_events: int
    duplicates_injected: int
    unchanged_writes: int
    warnings: int
    slots_held: int
    over_limit: int
    wrong_results: int
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
        return {
            "executions": f"≥ {FEWEST}",
            "completed": str(self.executions),
            "completed_events": str(self.executions),
            "duplicates_injected": "> 0",
            **dict.fromkeys(ZEROES, "0"),
        }

    def wrong(self) -> list[str]:
        """Name the figures that are not as they must be."""
        wrong = [name for name in ZEROES if getattr(self, name) != 0]
        wrong += [name for name in ("completed", "completed_events") if getattr(self, name) != self.executions]
        if self.executions < FEWEST:
            wrong.append("executions")
        if self.duplicates_injected == 0:
            wrong.append("duplicates_injected")
        return wrong


ZEROES: Final = (
    "failed",
    "unchanged_writes",
    "warnings",
    "slots_held",
    "over_limit",
    "wrong_results",
    "doctor_violations",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Figures, what else is not as it must be (a sentence each), and the proof to print when nothing is."""

    figures: Measured
    complaints: tuple[str, ...]
    proof: str

    @property
    def good(self) -> bool:
        """Whether everything is as it must be."""
        return not self.complaints and not self.figures.wrong()


def loud_lines(logs: Iterable[Path]) -> list[str]:
    """Return the lines at warning or above of JSON logs, but for one announcement of a lost worker.

    A line that is no JSON object was not written by our logger, a traceback for example, and counts.
    """
    loud: list[str] = []
    announced = False
    for line in (line for log in logs for line in log.read_text(errors="replace").splitlines() if line.strip()):
        try:
            told = json.loads(line)
        except ValueError:
            loud.append(line)
            continue
        if not announced and isinstance(told, dict) and told.get("event") == ANNOUNCEMENT:
            announced = True
        elif not isinstance(told, dict) or told.get("level") in LOUD:
            loud.append(line)
    return loud


def publish(outcome: Outcome, *, as_json: bool) -> None:
    """Write the table, the verdict and, with `as_json`, the figures as one JSON object on the last line."""
    figures, wrong, wanted = outcome.figures.values(), outcome.figures.wrong(), outcome.figures.wanted()
    meaning = outcome.figures.meaning()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("figure", "is", "must be", "meaning"):
        table.add_column(heading, justify="right" if heading in {"is", "must be"} else "left")
    for name, value in figures.items():
        table.add_row(
            name, str(value), wanted.get(name, ""), meaning[name], style="bold red" if name in wrong else None
        )
    # A fixed width elsewhere: what reads a pipe need not guess where a cell was folded.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for complaint in outcome.complaints:
        console.print(complaint, style="red", markup=False, soft_wrap=True)
    console.print(outcome.proof if outcome.good else "Not proved: see above.", markup=False, soft_wrap=True)
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
