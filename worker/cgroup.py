"""A control group (version 2) of the guardian's own, in which a worker and all that comes from it is killed at once.

It is there only where this was tried: made below the guardian's own group, entered, killed. Elsewhere the guardian
kills by lineage alone. It sets no limits and touches no group that is not below its own. Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import select
import signal
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX: Final = "interlock-"
EMPTY_SECONDS: Final = 1.0
"""How long killed processes may take to leave their group."""
_PROBE_SECONDS: Final = 10
_PATIENCE: Final = 5.0
_PAUSE: Final = 0.02
_MOUNTS: Final = Path("/proc/self/mountinfo")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


class NoCgroup(Exception):
    """Why no group can be had here, for people."""


class Cgroup:
    """One group. It exists until `close`, and its guardian holds a lock on it, so that others know whose it is."""

    level: Final = "cgroup"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = _locked(folder)
        if self._lock is None:
            raise NoCgroup(f"{folder} belongs to another guardian")

    @classmethod
    def create(cls, parent: Path | None = None) -> Self:
        """Make a group below the guardian's own one, or `parent`, and try it; kill what dead guardians left there.

        Raises NoCgroup.
        """
        parent = own_group() if parent is None else parent
        with ExitStack() as undo:
            try:
                with _alone_in(parent):
                    _bury_orphans(parent)
                    folder = parent / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
                    folder.mkdir()
                    undo.callback(_remove, folder)
                    made = cls(folder)
            except OSError as error:
                raise NoCgroup(f"{parent}: {error.strerror}") from error
            undo.pop_all()
            undo.callback(made.close)
            made._try()
            undo.pop_all()
            return made

    def make_again(self) -> None:
        """Make the group again, should somebody have removed it. Raises OSError."""
        if self._lock is not None and not self._folder.is_dir():
            self._folder.mkdir()
            os.close(self._lock)
            self._lock = _locked(self._folder)

    def enter(self) -> None:
        """Move the calling process into the group. Raises OSError."""
        _write(self._folder / "cgroup.procs", b"0")

    def kill(self) -> None:
        """SIGKILL everything in the group and below it, at once: nothing can fork its way out. Raises OSError."""
        _write(self._folder / "cgroup.kill", b"1")

    def close(self) -> None:
        """Remove the group, with the groups that were made inside it. One that does not get empty stays."""
        with suppress(OSError):
            _await_empty(self._folder)
            _remove(self._folder)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _try(self) -> None:
        """Prove that a process can enter and that a kill reaches it. Raises NoCgroup."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            _be_probe(self, reader, writer)
        os.close(writer)
        try:
            if os.read(reader, 1) != b"+":
                raise NoCgroup(f"{self._folder.parent}: a process cannot be moved into a group made there")
            self.kill()
            # Its end of the pipe is closed by its death, and by nothing else.
            if not select.select([reader], [], [], EMPTY_SECONDS)[0]:
                raise NoCgroup(f"{self._folder.parent}: a group made there was killed, and what was in it lives on")
        except OSError as error:
            raise NoCgroup(f"{self._folder.parent}: cgroup.kill: {error.strerror}") from error
        finally:
            os.close(reader)
            os.kill(pid, signal.SIGKILL)  # where the group did not do it; until it is reaped, its id is its own
            os.waitpid(pid, 0)


def own_group() -> Path:
    """Return the folder of the group that this process is in. Raises NoCgroup where there is no version 2."""
    try:
        mounts, groups = _MOUNTS.read_text(encoding="utf-8"), _MEMBERSHIP.read_text(encoding="utf-8")
    except OSError as error:
        raise NoCgroup(f"/proc/self: {error.strerror}") from error
    path = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        root, place = left.split()[3:5]
        if path is not None and right.startswith("cgroup2 ") and path.startswith(root):
            return Path(place) / path.removeprefix(root).lstrip("/")
    raise NoCgroup("control groups of version 2 are not mounted")


def _be_probe(group: Cgroup, reader: int, writer: int) -> None:
    """Be the forked child of a trial: enter, say so, wait for the end. Never returns."""
    try:
        os.close(reader)
        signal.alarm(_PROBE_SECONDS)  # in case the guardian is killed meanwhile
        group.enter()
        os.write(writer, b"+")
        signal.pause()
    finally:
        os._exit(1)


@contextmanager
def _alone_in(parent: Path) -> Iterator[None]:
    """Keep other guardians from looking at a group between its making and its locking. Raises NoCgroup."""
    # Not the folder: that may be the group of a guardian above us, who holds its lock for life.
    fd = os.open(parent / "cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + _PATIENCE
        while not _lock(fd):
            if time.monotonic() > until:
                raise NoCgroup(f"{parent}: another process keeps it locked")
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(file: Path, what: bytes) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, what)
    finally:
        os.close(fd)


def _locked(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of a group, or None while its guardian lives."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    if _lock(fd):
        return fd
    os.close(fd)
    return None


def _bury_orphans(parent: Path) -> None:
    """Kill what is left in groups whose guardian was killed itself: what its workers' commands daemonized."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError, NoCgroup):  # another guardian may be at it, or the group is another user's
            orphan = Cgroup(folder)
            orphan.kill()
            orphan.close()


def _await_empty(folder: Path) -> None:
    until = time.monotonic() + EMPTY_SECONDS
    fd = os.open(folder / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        changes = select.poll()
        changes.register(fd, select.POLLPRI)
        # Looked at again after each change: the kernel tells of one up to 10 ms late, and so of one before the last.
        while b"populated 0" not in os.pread(fd, 4096, 0) and time.monotonic() < until:
            changes.poll(max(0.0, until - time.monotonic()) * 1000)
    finally:
        os.close(fd)


def _remove(folder: Path) -> None:
    for below, _, _ in os.walk(folder, topdown=False):
        os.rmdir(below)  # noqa: PTH106 - what os.walk gives is a text
