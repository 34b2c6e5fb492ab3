"""What a person sees while the demo runs, on stderr: bars on a terminal, a line every two seconds anywhere else."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from interlock.local.stack import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LINE_SECONDS: Final = 2.0


@dataclass(slots=True)
class Scene:
    """What is shown: executions done and wanted by action, the workers, and what goes over the broker."""

    phase: str = "starting"
    done: Mapping[str, int] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)
    workers: Mapping[str, str] = field(default_factory=dict)
    events: int = 0
    rate: float = 0.0
    duplicates: int = 0

    @property
    def summary(self) -> str:
        """One line about everything but the actions."""
        workers = ", ".join(f"{name} {state}" for name, state in self.workers.items())
        return f"{self.phase} · {workers} · {self.events} events, {self.rate:.0f}/s, {self.duplicates} sent twice"


class Shown(Protocol):
    """What a view needs of a scene: bars by name, as far as they are and as long as they get, and a line below."""

    @property
    def done(self) -> Mapping[str, int]:
        """How far each bar is."""

    @property
    def total(self) -> Mapping[str, int]:
        """How long each bar gets."""

    @property
    def summary(self) -> str:
        """The line below the bars."""


class View(Protocol):
    """Whatever can show a scene, as often as it likes."""

    def show(self, scene: Shown) -> None:
        """Take in what is new."""


class _Lines:
    """Plain lines, for logs and pipes."""

    def __init__(self) -> None:
        self._shown_at = 0.0

    def show(self, scene: Shown) -> None:
        if monotonic() - self._shown_at < LINE_SECONDS:
            return
        self._shown_at = monotonic()
        actions = ", ".join(f"{name} {scene.done.get(name, 0)}/{total}" for name, total in scene.total.items())
        say(f"{actions} · {scene.summary}")


class _Bars:
    """One bar per action and a line below them."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._progress = Progress(TextColumn("{task.description:>14}"), BarColumn(40), MofNCompleteColumn())
        self._bars: dict[str, TaskID] = {}

    def show(self, scene: Shown) -> None:
        for name, total in scene.total.items():
            bar = self._bars.get(name)
            if bar is None:
                bar = self._bars[name] = self._progress.add_task(name, total=total)
            self._progress.update(bar, completed=scene.done.get(name, 0), total=total)
        self._live.update(Group(self._progress, Text(scene.summary, style="dim")))


@contextmanager
def view() -> Iterator[View]:
    """Give the view that fits standard error."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    with Live(console=Console(stderr=True), refresh_per_second=10) as live:
        yield _Bars(live)
