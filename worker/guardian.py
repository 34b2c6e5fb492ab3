"""The worker's parent: starts it, hears its heartbeat, and ends the whole tree before the worker's lease ends.

Law I10. Nothing in a worker's process tree outlives the worker's lease. So the guardian imports the standard library
only, knows neither settings nor servers, and does nothing that could make it late. It is the subreaper of the tree:
whatever a command daemonizes becomes its child and dies with the worker. Where it may, it puts the worker into a
control group, which the kernel kills as a whole.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from worker import lineage
from worker.heartbeat import BEAT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from worker.cgroup import Cgroup

FINAL_CODES: Final = frozenset({0, 69, 78})
"""Exit codes of the worker that end the guardian too: done, a service out of reach, misconfigured."""
STARTUP: Final = 60.0
"""Seconds a new worker has until its first heartbeat."""
FIRST_BACKOFF: Final = 0.1
LAST_BACKOFF: Final = 30.0
STEADY: Final = 60.0
"""Seconds a worker must have lived for its next restart to be prompt again."""
LOOK: Final = 1.0
"""Seconds between two looks at the clock at most: timers do not run while a machine is suspended, the clock does."""
PATIENCE: Final = 5.0
"""Seconds after which a killed process that hangs in the kernel is left to it: it never runs its own code again."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Child(NamedTuple):
    """A running worker: its process, the reading end of its heartbeat, and when it was started."""

    pid: int
    beats: int
    started: float


def worker_command(*arguments: str) -> tuple[str, ...]:
    """Return the command of the real worker; the number of its heartbeat's file descriptor is added to it."""
    return (sys.executable, "-m", "worker", "--child", *arguments, "--heartbeat-fd")


def line_report(event: str, **fields: object) -> None:
    """Write one line to stderr: words on a terminal, JSON elsewhere."""
    if sys.stderr.isatty():
        text = " ".join([f"guardian: {event}", *(f"{name}={value}" for name, value in fields.items())])
    else:
        text = json.dumps({"event": event, "logger": "worker.guardian", "level": "warning", **fields})
    with suppress(OSError):  # a log that cannot be written must not keep the guardian from killing
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


class Guardian:
    """Runs one worker after the other until one ends by itself. To be run on the main thread of its own process.

    `command` gets the heartbeat's file descriptor as one more argument; each beat says how long it is good for. Until
    the first one a worker has `startup` seconds. `group` is where it is put and killed; None leaves it to its lineage.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        startup: float = STARTUP,
        group: Cgroup | None = None,
        report: Callable[..., None] = line_report,
    ) -> None:
        self._command = tuple(command)
        self._group = group
        self._startup = startup
        self._report = report
        self._wakeup = -1
        self._signals: list[int] = []
        self._stopping = False

    def run(self) -> int:
        """Guard until the end and return the exit code: the worker's, or 1 when it was killed while stopping."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._wakeup = self._listen()
        backoff = FIRST_BACKOFF
        while True:
            child = self._start()
            code = self._guard(child)
            self._kill_tree(child)
            if self._stopping or code in FINAL_CODES:
                return code if code >= 0 else 1
            lived = _now() - child.started
            backoff = FIRST_BACKOFF if lived > STEADY else backoff
            self._report("the worker ended, a new one is started", code=code, lived=round(lived, 1), wait=backoff)
            if self._wait_out(backoff):
                return 0
            backoff = min(backoff * 2, LAST_BACKOFF)

    def _listen(self) -> int:
        """Let every signal wake the poll, and remember those that stop us."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        for number in _SIGNALS:
            signal.signal(number, self._remember)
        return reader

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)

    def _start(self) -> Child:
        """Start a worker in a session of its own, so that Ctrl-C on a terminal reaches it once, through us."""
        self._have_group()
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        guardian = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become([*self._command, str(writer)], writer, guardian, self._group)
        os.close(writer)
        return Child(pid, reader, _now())

    def _guard(self, child: Child) -> int:
        """Return when the worker has ended, or has to: its exit code, negative for a signal."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        poll.register(child.beats, select.POLLIN)
        newest, deadline = 0.0, child.started + self._startup
        while True:
            ready = {fd for fd, _ in poll.poll(max(0.0, min(deadline - _now(), LOOK)) * 1000)}
            if self._wakeup in ready:
                _drain(self._wakeup)
                code = _reap(child.pid)
                if code is not None:
                    return code
            self._forward(child.pid)
            if child.beats in ready:
                sent, kill_after, ended = _last_beat(child.beats)
                if ended:
                    poll.unregister(child.beats)  # its end was closed: the deadline or its death decides
                if sent > newest:
                    newest, deadline = sent, min(sent, _now()) + kill_after
            if _now() >= deadline:
                # The worker first: it must not see its commands die, and judge them, while its lease still lives.
                os.kill(child.pid, signal.SIGKILL)
                self._report("no good lease renewal in time, the worker's tree is killed", pid=child.pid)
                return -signal.SIGKILL

    def _forward(self, pid: int) -> None:
        """Hand on what asks us to stop: the worker drains at the first SIGTERM and stops now at the second."""
        while self._signals:
            self._signals.pop(0)
            self._stopping = True
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _kill_tree(self, child: Child) -> None:
        """SIGKILL every descendant, whatever session it is in and whoever its parent was, until none is left."""
        os.close(child.beats)
        self._kill_group()
        begun, told = _now(), False
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        while True:
            _reap(0)
            left = lineage.descendants(os.getpid(), lineage.processes())
            if _now() - begun > PATIENCE:
                if left and not told:
                    self._report("killed processes have not gone yet", pids=[one.pid for one in left])
                    told = True
                left = [one for one in left if one.state != lineage.UNINTERRUPTIBLE]
            if not left:
                return
            for one in left:
                lineage.kill(one)
            poll.poll(10)  # a death wakes it; the look itself is what decides
            _drain(self._wakeup)

    def _have_group(self) -> None:
        """Make the group again where somebody removed it: no worker starts outside the group that its row tells of."""
        try:
            if self._group is not None:
                self._group.make_again()
        except OSError as error:
            self._report("the control group cannot be made again", error=str(error))

    def _kill_group(self) -> None:
        """End the group at once, forks under way included; what it does not reach is found by its lineage."""
        try:
            if self._group is not None:
                self._group.kill()
        except OSError as error:
            self._report("the control group cannot be killed, its processes are, one by one", error=str(error))

    def _wait_out(self, seconds: float) -> bool:
        """Wait; return True at once when asked to stop meanwhile."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        end = _now() + seconds
        while not self._signals and (left := end - _now()) > 0:
            poll.poll(left * 1000)
            _drain(self._wakeup)
            _reap(0)
        return bool(self._signals)


def _become(command: list[str], writer: int, guardian: int, group: Cgroup | None) -> None:
    """Turn the forked child into the worker: die with the guardian, keep the heartbeat, exec. Never returns."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guardian:
            os._exit(1)
        if group is not None:
            group.enter()
        os.set_inheritable(writer, True)  # noqa: FBT003 - its signature
        os.execv(command[0], command)  # noqa: S606 - an argument list, no shell
    except OSError as error:
        line_report("the worker cannot be started", command=command[0], error=str(error))
    finally:
        os._exit(127)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _drain(fd: int) -> None:
    with suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass


def _reap(pid: int) -> int | None:
    """Reap all that has ended, orphans too; return the exit code of `pid` when it is among them."""
    code = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if ended == 0:
            return code
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)


def _last_beat(fd: int) -> tuple[float, float, bool]:
    """Return when the newest renewal was sent (0: nothing readable), how long it is good for, and if the pipe ended."""
    newest, ended = (0.0, 0.0), False
    with suppress(BlockingIOError):
        while not ended:
            data = os.read(fd, BEAT.size * 512)  # beats are written whole, so what is read is whole beats
            ended = not data
            newest = max([newest, *BEAT.iter_unpack(data)])
    return *newest, ended
