"""The daemons of a trial: always as many as there were, started anew when they die, as a service manager does it.

What they say is read when all is over: a bug that ended a process is a finding, whatever came of the executions.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Final, NamedTuple

from interlock.local.daemons import DRAIN, Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from interlock.local.daemons import Role
    from interlock.local.stack import Endpoints

LOOK: Final = 0.1
READY_SECONDS: Final = 60.0
MISCONFIGURED: Final = 78
KILLED_WHILE_STOPPING: Final = 1
"""A guardian's exit code when what it guarded did not live to end by itself."""


POINT: Final = re.compile(r'"point":"([^"]+)"')
PUBLISHING: Final = ("relay.", "sweep.")
"""How the names of fault points begin at which a process holds messages that others leave to it."""


class Death(NamedTuple):
    """A process that did the work and was killed: its id, when that was seen, by our own clock, and where it stood.

    `publishing`: it may have held messages of others, as whoever publishes does for a moment.
    """

    pid: int
    at: float
    publishing: bool


class Player:
    """One daemon, for as long as the trial lasts, whichever process plays it. `faults` are armed at its next start."""

    def __init__(self, role: Role, number: int, endpoints: Endpoints, logs: Path, env: Mapping[str, str]) -> None:
        self.role: Role = role
        self.name = f"{role}-{number}"
        self.faults = ""
        self.crashes = 0
        """How often it died by SIGKILL, but not by `kill`."""
        self.deaths: list[Death] = []
        self._struck: set[str] = set()
        self._killed = False
        self._last: int | None = None
        self._made = (endpoints, logs, env)
        self.daemon = self._daemon()

    def _daemon(self) -> Daemon:
        endpoints, logs, env = self._made
        armed = {"INTERLOCK_FAULTS": self.faults} if self.faults else {}
        return Daemon(self.role, self.name, endpoints, logs, {**env, **armed})

    def start(self) -> None:
        """Start a process for it, on a port of its own."""
        self._killed, self._last = False, None
        self.daemon = self._daemon()
        self.daemon.child.start()

    @property
    def pid(self) -> int | None:
        """The process that does the work: of a worker, the child of its guardian; None while there is none."""
        if self.daemon.child.exit_code is not None:
            return None
        if self.role == "executor":
            return self.daemon.pid
        try:
            children = Path(f"/proc/{self.daemon.pid}/task/{self.daemon.pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    def kill(self) -> None:
        """SIGKILL, which of a worker ends the guardian and all that it guards."""
        self._killed = True
        self._note_death(self.pid, publishing=True)
        self.daemon.kill()

    def _note_death(self, pid: int | None, *, publishing: bool) -> None:
        if pid is not None:
            self.deaths.append(Death(pid, time(), publishing))

    def ended(self) -> int | None:
        """Return the exit code if it has ended, and count a crash; also one that a guardian answered by itself."""
        code, pid = self.daemon.child.exit_code, self.pid
        if code is None:
            # A guardian starts another worker; one that was being stopped ends instead.
            if pid is not None and self._last is not None and pid != self._last:
                self._note_crash()
            self._last = pid or self._last
        elif not self._killed and code in {-signal.SIGKILL, KILLED_WHILE_STOPPING}:
            self._note_crash()
        return code

    def _note_crash(self) -> None:
        self.crashes += 1
        struck = self.struck()
        new, self._struck = struck - self._struck, struck
        # What was not struck at a fault point died where it happened to be.
        self._note_death(self._last, publishing=not new or any(point.startswith(PUBLISHING) for point in new))

    def struck(self) -> set[str]:
        """Return the fault points at which it was struck so far, by what it said itself."""
        return set(_struck(self.daemon.log))

    def signal(self, number: signal.Signals) -> int | None:
        """Send a signal to the process that does the work; return its id, or None where there is none."""
        pid = self.pid
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return None
        return pid


class Cast:
    """All players. `start`, then `keep` in a task of its own, then `stop`."""

    def __init__(
        self, endpoints: Endpoints, logs: Path, env: Mapping[str, str], *, executors: int = 2, workers: int = 3
    ) -> None:
        counts: tuple[tuple[Role, int], ...] = (("executor", executors), ("worker", workers))
        self.players = [
            Player(role, number, endpoints, logs, env) for role, count in counts for number in range(1, count + 1)
        ]
        self.odd_exits: list[str] = []

    @property
    def executors(self) -> list[Player]:
        """The executors, in order."""
        return [player for player in self.players if player.role == "executor"]

    @property
    def workers(self) -> list[Player]:
        """The workers, in order."""
        return [player for player in self.players if player.role == "worker"]

    @property
    def deaths(self) -> list[Death]:
        """Those of the workers, so far."""
        return [death for player in self.workers for death in player.deaths]

    async def start(self) -> None:
        """Start everybody at once and wait until all are ready. Raises Unavailable, with nobody left."""
        try:
            async with asyncio.TaskGroup() as starting:
                for player in self.players:
                    starting.create_task(player.daemon.start())
        except ExceptionGroup as failed:
            for player in self.players:
                player.kill()
            raise failed.exceptions[0] from None

    async def keep(self) -> None:
        """Start again whoever ends, for ever."""
        while True:
            await asyncio.sleep(LOOK)
            for player in self.players:
                code = player.ended()
                if code is not None:
                    if code == MISCONFIGURED:
                        self.odd_exits.append(f"{player.name} ended with exit code {code}: see {player.daemon.log}")
                    player.start()

    async def all_ready(self) -> bool:
        """Wait until everybody is ready; False if that takes READY_SECONDS."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not all([await player.daemon.is_ready() for player in self.players]):  # noqa: ASYNC110 - others
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Let all end, workers first; an end that is not clean is odd, but for who is only just starting."""
        for group in (self.workers, self.executors):
            drains = [player for player in group if await player.daemon.is_ready()]
            await asyncio.gather(*(player.daemon.child.stop(grace=DRAIN) for player in group))
            for player in drains:
                if player.daemon.child.exit_code != 0:
                    code = player.daemon.child.exit_code
                    self.odd_exits.append(f"{player.name} was asked to stop and ended with exit code {code}")

    def kill(self) -> None:
        """End everybody at once."""
        for player in self.players:
            player.kill()

    def bugs(self) -> list[str]:
        """Return the first words of every line that tells of a bug: a critical one, or one that no logger wrote."""
        return [f"{player.name}: {line}" for player in self.players for line in _bugs(player.daemon.log)]


def _struck(log: Path) -> Iterator[str]:
    """Find the points of the faults that a log tells of."""
    if log.exists():
        with log.open(errors="replace") as lines:
            for line in lines:
                if '"event":"fault"' in line and (found := POINT.search(line)):
                    yield found[1]


def _bugs(log: Path) -> Iterator[str]:
    """Find them; a line that was cut short by a kill begins as our own lines do, and is none."""
    if not log.exists():
        return
    written = True
    for line in log.read_text(errors="replace").splitlines():
        ours = line.startswith("{")
        # A traceback is many lines: its first one is enough to find it.
        if not ours and written and line.strip():
            yield line[:300]
        written = ours
        if '"level": "critical"' in line or '"level":"critical"' in line:
            yield line[:600]
