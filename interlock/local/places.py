"""Where a private stack keeps its files, who may use them, and how what a killed run left behind is swept up.

<state>/                 INTERLOCK_STATE, .run in a checkout
    packages/            unpacked server packages, shared by all stacks
    stacks/<name>/       one stack: its data, logs, secrets and stack.json, held by a lock
    outside              a link to what root keeps where another user can read it
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock.contract.errors import Unavailable

OUTSIDE: Final = Path("/var/lib/interlock")
STACKS: Final = "stacks"
LOCK: Final = "lock"
KEPT: Final = "kept"


def as_root() -> bool:
    """Say whether this process is root, whom PostgreSQL refuses to serve."""
    return os.getuid() == 0


@dataclass(frozen=True, slots=True)
class Place:
    """The files of one stack. `state` is shared with other stacks, `folder` and `outside` are its own.

    `outside` is where the database lives: the same folder, except for root, whose own folders may be closed to the
    user PostgreSQL runs as.
    """

    state: Path
    folder: Path
    outside: Path
    binaries: Path
    keep: bool
    lock: int

    @property
    def packages(self) -> Path:
        """Unpacked server packages, shared by all stacks of this state."""
        return self.state / "packages"

    def open_outside(self) -> None:
        """Make `outside`, and the link by which it is found again when the state is cleaned."""
        self.outside.mkdir(mode=0o755, parents=True, exist_ok=True)
        link = self.state / "outside"
        if self.outside != self.folder and not link.is_symlink():
            link.symlink_to(_shared(self.state))

    def release(self) -> None:
        """Give the place back; all of it is removed unless it was to be kept."""
        if not self.keep:
            _remove(self.outside, self.folder)
        os.close(self.lock)


def take(state: Path, name: str | None = None) -> Place:
    """Take a place in `state`: the one called `name`, which is kept, or a new one that goes with us.

    Raises Unavailable if another process holds that name, or if the folder cannot be written.
    """
    root = _root_of(state.absolute())
    try:
        (root / STACKS).mkdir(parents=True, exist_ok=True)
        with (root / LOCK).open("ab") as turn:
            # One at a time: a place that is just being made looks as if nobody held it.
            fcntl.flock(turn, fcntl.LOCK_EX)
            _sweep(root)
            label = name or secrets.token_hex(4)
            folder = root / STACKS / label
            folder.mkdir(mode=0o700, exist_ok=True)
            lock = _lock(folder)
            if name is not None:
                (folder / KEPT).touch()
    except OSError as error:
        raise Unavailable(f"{root}: {error.strerror}; name a folder you may write in INTERLOCK_STATE") from error
    if lock is None:
        raise Unavailable(f"another process already runs the stack in {folder}: stop it, or use its {root}/stack.json")
    shared = _shared(root)
    return Place(
        state=root,
        folder=folder,
        outside=shared / STACKS / label,
        binaries=shared / "binaries",
        keep=name is not None,
        lock=lock,
    )


def _root_of(state: Path) -> Path:
    """Inside a command run on a stack, INTERLOCK_STATE names that stack: what it starts shares the same packages."""
    return state.parent.parent if state.parent.name == STACKS else state


def _shared(root: Path) -> Path:
    """Return where databases and their programs live: in the state itself, except for root."""
    return OUTSIDE / hashlib.sha256(os.fsencode(root)).hexdigest()[:12] if as_root() else root


def _lock(folder: Path) -> int | None:
    """Hold the folder until this process ends, however it ends; None when another process does."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _sweep(root: Path) -> None:
    """Remove stacks whose process is gone without a goodbye; named ones are kept, they hold data."""
    for folder in (root / STACKS).iterdir():
        if (folder / KEPT).exists():
            continue
        lock = _lock(folder)
        if lock is not None:
            _remove(folder, _shared(root) / STACKS / folder.name)
            os.close(lock)


def _remove(*folders: Path) -> None:
    # Whatever cannot be removed now is swept by the next start.
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
