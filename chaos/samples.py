"""Looks at the processes of a cast and at their database, again and again, and keeps what it saw as series.

Judges nothing. A process is known by its pid: one that was started anew is another one, and is told of.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from chaos.flatness import Series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chaos.cast import Player
    from chaos.stage import Stage

MEGABYTE: Final = 1024 * 1024
COMES_AND_GOES: Final = ("in_flight", "lane", "outbox", "queue", "slot", "timer", "waiting", "worker")
"""Tables whose rows are deleted or stay few, so that their size may not grow with what was done."""
TASKS: Final = re.compile(r"^interlock_tasks (\S+)$", re.MULTILINE)


class Samples:
    """What was seen so far. `gone` names each process that was not there any more, once."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._seen: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        self._pids = self._processes()
        self._http = httpx.AsyncClient(trust_env=False, timeout=10)
        self.gone: list[str] = []
        self.deadlocks = 0

    async def watch(self, every: float) -> None:
        """Look every so many seconds, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(every)

    async def look(self) -> None:
        """Take one sample of everything."""
        for name, pid in self._processes().items():
            if pid is None or pid != self._pids[name]:
                self.gone += [] if name in self.gone else [name]
            elif name not in self.gone:
                for measure, value in of_process(pid).items():
                    self._seen[measure, name].append(value)
        for name, count in (await self.tasks()).items():
            self._seen["tasks", name].append(count)
        await self._look_at_database()

    async def tasks(self) -> dict[str, float]:
        """Return how many tasks each daemon says that it has; who does not answer is left out."""
        players = self._stage.cast.players
        counts = await asyncio.gather(*(self._tasks_of(player) for player in players))
        return {player.name: count for player, count in zip(players, counts, strict=True) if count is not None}

    def series(self, *measures: str) -> list[Series]:
        """Return what was seen of these measures, in the order in which it was seen first."""
        return [
            Series(measure=key[0], of=key[1], values=found) for key, found in self._seen.items() if key[0] in measures
        ]

    async def close(self) -> None:
        """Let go of the connections to the daemons."""
        await self._http.aclose()

    def _processes(self) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        for player in self._stage.cast.players:
            found[player.name] = player.pid
            if player.role == "worker":
                found[f"{player.name} guardian"] = player.daemon.pid
        return found

    async def _tasks_of(self, player: Player) -> float | None:
        try:
            told = TASKS.search((await self._http.get(f"{player.daemon.url}/metrics")).text)
        except httpx.HTTPError:
            return None
        return float(told[1]) if told else None

    async def _look_at_database(self) -> None:
        eyes = self._stage.eyes
        for row in await eyes.fetch("connections"):
            self._seen["connections", row["name"]].append(row["n"])
        for row in await eyes.fetch("tables"):
            self._seen["dead_rows", row["name"]].append(row["dead"])
            if row["name"] in COMES_AND_GOES:
                self._seen["size_mb", row["name"]].append(row["bytes"] / MEGABYTE)
        (backlog,) = await eyes.fetch("backlog")
        for name in ("outbox", "waiting", "timer"):
            self._seen["rows", name].append(backlog[name])
        self.deadlocks = backlog["deadlocks"]


def of_process(pid: int) -> Mapping[str, float]:
    """Return what the kernel says of a process: memory, descriptors, threads; nothing, if it has just ended."""
    folder = Path("/proc") / str(pid)
    try:
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        descriptors = sum(1 for _ in (folder / "fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return {}
    if "VmRSS" not in status:
        return {}  # it has ended, and its parent has not looked yet
    return {
        "rss_mb": int(status["VmRSS"].split()[0]) / 1024,
        "fds": float(descriptors),
        "threads": float(status["Threads"]),
    }
