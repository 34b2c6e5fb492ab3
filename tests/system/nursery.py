"""Executors of tests, forked from a process that has imported all they need, which is most of what a start costs.

Each is a process in a session of its own with an environment and a log of its own, as `interlock.local.children` makes
them. The command that operators start is run by the demonstrations, the trials and `interlock up`, and their tests.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, Self, cast

from interlock.local.children import Child, leashed
from interlock.local.leash import die_with

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LARGEST: Final = 1 << 17
"""Bytes of the largest message: whole messages go both ways, each a JSON object."""


class Nursery:
    """The process that forks, seen from the tests. `with Nursery() as nursery:`; those it forked die with it."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = leashed([sys.executable, "-m", __name__, str(theirs.fileno())])
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        self._codes: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._process.wait()

    def fork(self, env: Mapping[str, str], log: Path) -> Nursling:
        """Start an executor with this environment, its output appended to a log."""
        self._control.send(json.dumps({"env": dict(env), "log": str(log)}).encode())
        while "pid" not in (told := self._hear()):
            pass
        return Nursling(self, told["pid"])

    def code_of(self, pid: int) -> int | None:
        """Return the exit code of one, minus the signal's number where one ended it; None while it runs."""
        while pid not in self._codes and select.select([self._control], [], [], 0)[0]:
            self._hear()
        return self._codes.get(pid)

    def _hear(self) -> dict[str, Any]:
        message = self._control.recv(LARGEST)
        if not message:
            raise RuntimeError("the process that forks executors has ended")
        told: dict[str, Any] = json.loads(message)
        if "ended" in told:
            self._codes[told["ended"]] = told["code"]
        return told


class Nursling:
    """A forked executor, with what `Child` asks of a process."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery, self.pid = nursery, pid

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self._nursery.code_of(self.pid)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to one that runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Forked(Child):
    """A child that is forked instead of started."""

    nursery: Nursery

    @classmethod
    def instead_of(cls, child: Child, nursery: Nursery) -> Self:
        """Return one with everything that `child` was given."""
        forked = cls.__new__(cls)
        vars(forked).update(vars(child), nursery=nursery)
        return forked

    def start(self) -> None:
        """Fork it."""
        self._process = cast("subprocess.Popen[bytes]", self.nursery.fork(self._env, self.log))


class Forker:
    """The process that forks, from inside. It has no thread and no loop, so what it forks begins like any program."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._children: dict[int, int] = {}

    def run(self) -> dict[str, Any] | None:
        """Serve until the tests have ended; then, and in each forked process, return: None, and what it is to be."""
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._children:
                    self._bury(fd)
                    continue
                request = self._control.recv(LARGEST)
                if not request:
                    return None
                pid = os.fork()
                if pid == 0:
                    self._forget()
                    wanted: dict[str, Any] = json.loads(request)
                    return wanted
                self._watch(pid)

    def _watch(self, pid: int) -> None:
        fd = os.pidfd_open(pid)
        self._children[fd] = pid
        self._poll.register(fd, select.POLLIN)
        self._tell(pid=pid)

    def _bury(self, fd: int) -> None:
        self._poll.unregister(fd)
        os.close(fd)
        pid, status = os.waitpid(self._children.pop(fd), 0)
        self._tell(ended=pid, code=os.waitstatus_to_exitcode(status))

    def _tell(self, **told: int) -> None:
        self._control.send(json.dumps(told).encode())

    def _forget(self) -> None:
        for fd in self._children:
            os.close(fd)
        self._control.close()


def _become(wanted: Mapping[str, Any], parent: int) -> None:
    """Be what `Child` starts: its session, its output, its environment, and an end with its parent."""
    os.setsid()
    die_with(parent, signal.SIGKILL)
    out = os.open(wanted["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(out)
    os.close(nothing)
    os.environ.clear()
    os.environ.update(wanted["env"])
    sys.argv = ["interlock-executor"]


def _main() -> None:
    import executor.service  # noqa: F401, PLC0415 - what there is to gain
    from executor.__main__ import main  # noqa: PLC0415

    gc.freeze()
    own = os.getpid()
    wanted = Forker(socket.socket(fileno=int(sys.argv[1]))).run()
    if wanted is not None:
        _become(wanted, own)
        main()


if __name__ == "__main__":
    _main()
