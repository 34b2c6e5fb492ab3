"""Warm processes: a function with `isolation: process` has one for itself, which can be killed without the worker.

They are started anew, never forked from the worker's threads, and used again for whatever comes next. It keeps at most
as many as calls are made at once, ends those that idle, and judges nothing but the death of a process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import uuid
from contextlib import ExitStack, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from worker.outcome import Outcome, failed
from worker.runners.frames import Frames, TooLarge, frame, outcome_of
from worker.runners.function import FunctionRefused
from worker.runners.launcher import launcher
from worker.runners.process import Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.runners.grace import Grace
    from worker.runners.logsink import LogSink, Stream

IDLE_SECONDS: Final = 60.0
"""After so long without a call a process is ended."""
OURS: Final = ("INTERLOCK_", "NOTIFY_SOCKET", "WATCHDOG_")
"""Beginnings of variables that are the worker's own business; `surrounding` leaves them out."""
_CHUNK: Final = 256 * 1024
_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
    "from worker.runners.inside import main; main(int(sys.argv[2]), sys.argv[3:])"
)


def surrounding(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of the worker's environment a function sees in a process of its own.

    All but Interlock's: it is code that the operator allowed by name, and its package may be configured that way. The
    addresses of the database and the broker with their passwords are nothing it needs.
    """
    return {name: value for name, value in environ.items() if not name.startswith(OURS)}


class Switch:
    """Leads what a process prints to the log of the call that it is at; between two calls, nowhere."""

    def __init__(self) -> None:
        self.target: LogSink | None = None

    @property
    def full(self) -> bool:
        """Whether nothing written now is kept."""
        return self.target is None or self.target.full

    def write(self, stream: Stream, line: str) -> None:
        """Add a line."""
        if self.target is not None:
            self.target.write(stream, line)


class WarmProcess:
    """One process and the line to it. Starting it may raise OSError. `spent`: it must not be used again."""

    def __init__(self, allowed: Sequence[str], environment: Mapping[str, str]) -> None:
        self.spent = False
        self._sink = Switch()
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[dict[str, Any] | None] = self._loop.create_future()
        self._frames = Frames()
        self._line, theirs = socket.socketpair()
        mark = f"_INTERLOCK_RUN={uuid.uuid4().hex}"
        name, _, value = mark.partition("=")
        places = json.dumps([place or os.getcwd() for place in sys.path])  # noqa: PTH109 - a text
        boot = [sys.executable, "-Iu", "-c", _BOOT, places, str(theirs.fileno()), *allowed]
        with theirs, ExitStack() as undo:
            undo.callback(self._line.close)
            self._process = Process(
                [*launcher(), *boot],
                {**environment, name: value},
                os.getcwd(),  # noqa: PTH109 - a text
                mark,
                self._sink,
                pass_fds=(theirs.fileno(),),
                on_end=self._note_death,
            )
            undo.pop_all()
        self._line.settimeout(0)
        self._loop.add_reader(self._line, self._read)

    def is_usable(self) -> bool:
        """Whether it lives and may be given a call."""
        return not self.spent and not self._process.is_over()

    async def call(self, call: Mapping[str, Any], sink: LogSink, grace: Grace) -> Outcome | None:
        """Make one call and return its outcome; None when the process died of it. Raises FunctionRefused.

        Cancelled: the function is asked to stop and given `grace`, then CancelledError is raised, and `close` kills; or
        the outcome is returned, when it was there before. A second cancel ends the grace at once.
        """
        self._sink.target = sink
        self._answer = answer = self._loop.create_future()
        whole = False
        try:
            with suppress(ConnectionError):  # it died: the answer will say so
                await self._loop.sock_sendall(self._line, frame({"kind": "call", **call}))
            whole = True
            await asyncio.wait([answer])
        except asyncio.CancelledError:
            if not answer.done():
                self.spent = True
                if whole:
                    await self._stop(grace)
                raise
        finally:
            self._process.stdout.drain()
            self._process.stderr.drain()
        return self._told(answer.result())

    async def _stop(self, grace: Grace) -> None:
        with suppress(TimeoutError, ConnectionError):
            async with grace.granted():
                await self._loop.sock_sendall(self._line, frame({"kind": "stop"}))
                await asyncio.wait([self._answer])

    def rest(self) -> None:
        """Put it between two calls. What it left running belongs to a call that has ended: then it is spent."""
        self._sink.target = None
        if self.is_usable() and self._process.offspring():
            self.spent = True

    def death(self) -> Outcome:
        """Say of what it died; known after `close`."""
        code = self._process.exit_code
        if code is None:
            how = "ended"
        elif code < 0:
            name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
            how = f"was killed by {name}"
        else:
            how = f"exited with {code}"
        last = self._process.stderr.last_line()
        message = f"the process that ran it {how}" + (f": {last}" if last else "")
        return failed("ProcessDied", message, location=how, exit_code=code)

    async def close(self) -> None:
        """Kill it and all that came from it, and reap it."""
        self._loop.remove_reader(self._line)
        self._line.close()
        await self._process.close()

    def _read(self) -> None:
        try:
            data = self._line.recv(_CHUNK)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._loop.remove_reader(self._line)
            self._fall_silent()
            return
        try:
            for told in self._frames.feed(data):
                self._hear(told)
        except (TooLarge, ValueError):
            # Only code in there that meddles with its files can say this; whatever it was, the call has no answer.
            self._loop.remove_reader(self._line)
            self._fall_silent()

    def _hear(self, told: dict[str, Any]) -> None:
        if told["kind"] == "log":
            self._sink.write("log", told["line"])
        elif not self._answer.done():
            self._answer.set_result(told)

    def _note_death(self) -> None:
        # Its last words may still lie there; what it forked may keep the line open, so the end is not waited for.
        while not self.spent and self._line.fileno() >= 0 and _has_data(self._line):
            self._read()
        self._fall_silent()

    def _fall_silent(self) -> None:
        self.spent = True
        if not self._answer.done():
            self._answer.set_result(None)

    def _told(self, told: dict[str, Any] | None) -> Outcome | None:
        if told is None:
            return None
        if told["kind"] == "refused":
            raise FunctionRefused(told["code"], told["message"])
        return outcome_of(told["outcome"])


class WarmProcesses:
    """All warm processes of a worker. `allowed` are the modules that functions may come from."""

    def __init__(self, allowed: Sequence[str], environment: Mapping[str, str], *, idle: float = IDLE_SECONDS) -> None:
        self._allowed = tuple(allowed)
        self._environment = dict(environment)
        self._idle_seconds = idle
        self._idle: list[tuple[float, WarmProcess]] = []

    async def run(
        self,
        function: str,
        params: Mapping[str, object],
        *,
        execution_id: str,
        attempt: int,
        sink: LogSink,
        grace: Grace,
    ) -> Outcome:
        """Call a function in a process of its own and return its outcome. Raises FunctionRefused.

        What the process prints goes to `sink`, too. Failures are those of `run_function`, `ProcessDied` and
        `ProcessNotStarted`. Cancelled: it is asked to stop as any function is, and killed after `grace`.
        """
        try:
            process = await self._take()
        except OSError as error:
            return failed("ProcessNotStarted", f"no process could be started: {error.strerror}")
        call = {"function": function, "params": params, "execution_id": execution_id, "attempt": attempt}
        try:
            outcome = await process.call(call, sink, grace)
        finally:
            await self._put_back(process)
        return process.death() if outcome is None else outcome

    async def tend(self) -> None:
        """End those that idle, until cancelled; then all."""
        try:
            while True:
                await asyncio.sleep(self._idle_seconds / 4)
                while self._idle and self._idle[0][0] <= monotonic() - self._idle_seconds:
                    await self._idle.pop(0)[1].close()
        finally:
            while self._idle:
                await self._idle.pop()[1].close()

    async def _take(self) -> WarmProcess:
        """Take the one that was used last, so that the others may end; start one where there is none."""
        while self._idle:
            process = self._idle.pop()[1]
            if process.is_usable():
                return process
            await process.close()
        return WarmProcess(self._allowed, self._environment)

    async def _put_back(self, process: WarmProcess) -> None:
        process.rest()
        if process.is_usable():
            self._idle.append((monotonic(), process))
        else:
            await process.close()


def _has_data(line: socket.socket) -> bool:
    try:
        return bool(line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except (BlockingIOError, ConnectionError):
        return False
