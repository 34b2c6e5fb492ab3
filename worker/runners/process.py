"""One started process with its output and everything it started in turn: waits for it, signals it, ends all of it.

It decides nothing about outcomes. It keeps the ended process unreaped until its group is killed, so that no id of it
can belong to a stranger meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Final, Protocol

from worker import lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.runners.grace import Grace
    from worker.runners.logsink import Stream

TAIL: Final = 4 * 1024
"""Bytes kept of the end of each stream, whatever was logged of it."""
_CHUNK: Final = 64 * 1024
_LINE: Final = 8 * 1024 + 1  # one byte more than a log line may have, so that the log shows the cut
_SETTLE: Final = 5.0
"""Seconds for killed processes to disappear and their pipes to close; a longer stay is the kernel's (a dead mount)."""
_LOOK: Final = 0.005


class Lines(Protocol):
    """What takes the lines of a process; `LogSink` is one."""

    @property
    def full(self) -> bool:
        """Whether nothing written from now on is kept."""

    def write(self, stream: Stream, line: str) -> None:
        """Add a line."""


class Capture:
    """Reads one pipe to its end: lines to the log, the last bytes for the outcome; memory is bounded."""

    def __init__(self, fd: int, stream: Stream, sink: Lines) -> None:
        self._fd, self._stream, self._sink = fd, stream, sink
        self._partial = b""
        self._tail = b""
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def tail(self) -> str:
        """Return the last 4 KiB as text; bytes that are not UTF-8 show as U+FFFD."""
        return self._tail.decode(errors="replace")

    def last_line(self) -> str:
        """Return the last line that is not blank, or an empty text."""
        return next((line.strip() for line in reversed(self.tail().splitlines()) if line.strip()), "")

    def drain(self) -> None:
        """Log everything that was written until now, an unfinished line too."""
        while not self.ended.is_set() and self._read():
            pass
        self._end_line()

    def close(self) -> None:
        """Stop reading and log what is left of an unfinished line. Again: nothing."""
        if self.ended.is_set():
            return
        self._loop.remove_reader(self._fd)
        self._end_line()
        self.ended.set()

    def _end_line(self) -> None:
        if self._partial:
            self._write(self._partial)
            self._partial = b""

    def _read(self) -> bool:
        """Whether there was something."""
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self._tail = (self._tail + data)[-TAIL:] if len(data) < TAIL else data[-TAIL:]
        if not self._sink.full:
            self._split(data)
        return True

    def _split(self, data: bytes) -> None:
        first, *lines = (self._partial + data).split(b"\n")
        if not lines:
            self._partial = first[:_LINE]
            return
        self._partial = lines.pop()[:_LINE]
        for line in (first, *lines):
            self._write(line)

    def _write(self, line: bytes) -> None:
        self._sink.write(self._stream, line[:_LINE].decode(errors="replace"))


class Process:
    """A process in its own session. Starting it may raise OSError or ValueError. `exit_code` is known after `close`.

    `mark` is a NAME=value of its environment that no other has; `on_end` is called once, when it has ended by itself or
    was killed; `pass_fds` are open in it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
        mark: str,
        sink: Lines,
        *,
        pass_fds: Sequence[int] = (),
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._popen = subprocess.Popen(
            argv,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=pass_fds,
            bufsize=0,
        )
        self.exit_code: int | None = None
        self._pid = self._popen.pid
        self._mark = mark.encode()
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._handle = self._open_handle()
        self._on_end = on_end
        self._loop.add_reader(self._handle, self._note_end)
        self.stdout = self._capture(self._popen.stdout, "stdout")
        self.stderr = self._capture(self._popen.stderr, "stderr")

    def _open_handle(self) -> int:
        try:
            return os.pidfd_open(self._pid)
        except OSError:
            # Out of file descriptors: what nobody could wait for must not run.
            self._signal_group(signal.SIGKILL)
            with self._popen:
                raise

    def _capture(self, pipe: IO[bytes] | None, stream: Stream) -> Capture:
        if pipe is None:
            raise TypeError("a pipe that was asked for is missing")
        return Capture(pipe.fileno(), stream, self._sink)

    def _note_end(self) -> None:
        # A handle stays readable, and would wake the loop without end.
        self._loop.remove_reader(self._handle)
        self._over.set()
        if self._on_end is not None:
            self._on_end()

    async def ended(self) -> None:
        """Wait until the process itself has ended; what it started may still run."""
        await self._over.wait()

    def is_over(self) -> bool:
        """Whether the process itself has ended by now, noticed or not."""
        try:
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    async def terminate(self, grace: Grace) -> None:
        """Ask the whole group to end and give it `grace`. A stopped group is continued to hear it."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            self._signal_group(number)
        with suppress(TimeoutError):
            async with grace.granted():
                await self.ended()

    async def close(self) -> None:
        """End everything that is left, read the output to its end, reap. Bounded; the killing part never waits."""
        try:
            # One look is enough when the process had ended and left nothing: what is not there cannot fork.
            look_again = not self.is_over()
            look_again = self._kill_once() > 0 or look_again
            with suppress(TimeoutError):
                async with asyncio.timeout(_SETTLE):
                    await self.ended()
                    while look_again:
                        await asyncio.sleep(_LOOK)
                        look_again = self._kill_once() > 0
                    await self.stdout.ended.wait()
                    await self.stderr.ended.wait()
        finally:
            self._release()

    def offspring(self) -> set[lineage.Kin]:
        """Return all that came from this process and lives, daemons included."""
        table = lineage.processes()
        leader = table.get(self._pid)
        if leader is None:
            return set()
        return {*lineage.descendants(self._pid, table), *lineage.bearers(self._mark, leader.started, table)} - {leader}

    def _kill_once(self) -> int:
        """SIGKILL the group and all that came from this process; return how many were still there beside itself."""
        self._signal_group(signal.SIGKILL)
        if self.is_over() and not lineage.has_orphans():
            return 0
        left = self.offspring()
        for one in left:
            lineage.kill(one)
        return len(left)

    def _signal_group(self, number: int) -> None:
        # Its id is ours as long as the process is not reaped; a setuid program in it may refuse.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)

    def _release(self) -> None:
        for capture in (self.stdout, self.stderr):
            if not capture.ended.is_set():
                self._sink.write(
                    "log", "the output was cut: a process that left the command's tree still holds it open"
                )
            capture.close()
        self._loop.remove_reader(self._handle)
        os.close(self._handle)
        for pipe in (self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()
        try:
            ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            self._popen.returncode = 0  # reaped by other code: nobody knows, and `exit_code` says so
            return
        if ended is not None:
            self.exit_code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            self._popen.returncode = self.exit_code
