"""Child processes that die with us: start, watch, stop. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from interlock.contract.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

LEASH: Final = Path(__file__).with_name("leash.py")
POLL: Final = 0.02
TAIL: Final = 15
# Below the range from which the system takes ports for outgoing connections, and away from every well-known one.
PORTS: Final = range(20_000, 32_000)
HELD: Final = 64
_held: deque[socket.socket] = deque()


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens, and which is given to nobody else.

    It is held, until 64 later ones are, by a socket that does not listen. A server binds beside it with SO_REUSEADDR,
    as servers do on Linux; on other systems they could not, and nothing is held.
    """
    for port in random.sample(PORTS, k=100):
        probe = socket.socket()
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.close()
            continue
        _hold(probe)
        return port
    raise Unavailable("no free port found on 127.0.0.1 in 100 tries: is the loopback interface up?")


def _hold(probe: socket.socket) -> None:
    # Only now: who looks for a port asks without it and is refused, who was given this one asks with it.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _held.append(probe)
    if len(_held) > (HELD if sys.platform == "linux" else 0):
        _held.popleft().close()


def leashed(command: Sequence[str], *, death: signal.Signals = signal.SIGKILL, user: str = "") -> list[str]:
    """Return the command line that runs `command` as `user` and sends it `death` when this process dies."""
    program = shutil.which(command[0]) or command[0]
    return [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(int(death)), user, program, *command[1:]]


class Child:
    """One process in a session of its own (Ctrl-C does not reach it), with its output appended to a log file.

    It runs in `folder` (default: ours) as `user` (default: ours) and is sent `death` when this process dies.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        user: str = "",
        death: signal.Signals = signal.SIGKILL,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = leashed(command, death=death, user=user)
        self._env = dict(env)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; the command keeps it, as the leash is an exec."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, minus the signal's number where one ended it; None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the process. Its output is appended to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended already is no error."""
        if self._process is not None:
            self._process.send_signal(number)

    async def wait(self, timeout: float | None = None) -> int | None:  # noqa: ASYNC109 - None means: still running
        """Wait for the end, at most `timeout` seconds; None when it is still running then."""
        deadline = None if timeout is None else monotonic() + timeout
        while self._process is not None and self._process.poll() is None:
            if deadline is not None and monotonic() > deadline:
                return None
            await asyncio.sleep(POLL)
        return self.exit_code

    async def run(self, *, within: float, hint: str) -> None:
        """Run a command that ends by itself. Raises Unavailable, with the end of its log and `hint`, if it fails."""
        self.start()
        try:
            code = await self.wait(within)
        finally:
            self.kill()
        if code != 0:
            end = f"did not end within {within:g} s" if code is None else f"failed with exit code {code}"
            raise Unavailable(f"{self.name} {end}; {hint}; {self._told()}")

    async def until(self, ready: Callable[[], Awaitable[bool]], *, within: float) -> None:
        """Wait until `ready` says so. Raises Unavailable, with the end of the log, if it ends or is too slow."""
        deadline = monotonic() + within
        while not await ready():
            if self.exit_code is not None:
                raise Unavailable(f"{self.name} ended with exit code {self.exit_code} while starting; {self._told()}")
            if monotonic() > deadline:
                raise Unavailable(f"{self.name} was not ready within {within:g} s; {self._told()}")
            await asyncio.sleep(POLL)

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, grace: float = 10) -> int | None:
        """End the process: first by `number`, after `grace` seconds by SIGKILL for its whole session. Idempotent."""
        if self._process is None:
            return None
        self.send(number)
        if await self.wait(grace) is None:
            self.kill()
            await self.wait()
        return self.exit_code

    def kill(self) -> None:
        """End the whole session at once, as a crash would."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def _told(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:] if self.log.exists() else []
        return "\n".join([f"{self.log.name} ends with:", *(f"  {line}" for line in lines)])
