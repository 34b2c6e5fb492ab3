"""What the kernel says of processes: the CPU seconds of a tree, peak memory, who listens on a port. Linux only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROC: Final = Path("/proc")
TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
LISTENING: Final = "0A"


class Process(NamedTuple):
    """One process: its parent, and the CPU seconds of itself and of the children that it has waited for."""

    parent: int
    seconds: float


def parse_stat(text: str, tick: float = TICK) -> Process:
    """Read /proc/<pid>/stat. The name in parentheses may hold anything, spaces and parentheses too."""
    fields = text.rpartition(")")[2].split()
    return Process(int(fields[1]), sum(int(field) for field in fields[11:15]) * tick)


def processes() -> dict[int, Process]:
    """Return all processes by pid."""
    found: dict[int, Process] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                found[int(folder.name)] = parse_stat((folder / "stat").read_text(errors="replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    return found


def tree(found: Mapping[int, Process], roots: Iterable[int]) -> set[int]:
    """Return the roots and everything below them."""
    below = {pid for pid in roots if pid in found}
    ahead = below
    while ahead:
        ahead = {pid for pid, process in found.items() if process.parent in ahead} - below
        below = below | ahead
    return below


def seconds(found: Mapping[int, Process], roots: Iterable[int]) -> float:
    """Return the CPU seconds of these trees so far, those of ended children included."""
    return sum(found[pid].seconds for pid in tree(found, roots))


def busy_seconds(tick: float = TICK) -> float:
    """Return the CPU seconds that all processors have spent on anything since the machine started."""
    return parse_busy((PROC / "stat").read_text(), tick)


def parse_busy(text: str, tick: float = TICK) -> float:
    """Read the first line of /proc/stat: what was neither idle, nor waiting for a disk, nor a guest's twice."""
    user, nice, system, _idle, _wait, irq, softirq, steal = (int(field) for field in text.split()[1:9])
    return (user + nice + system + irq + softirq + steal) * tick


def peak_mb(pid: int) -> float:
    """Return the largest resident size that a process has had, in MB; 0 for one that has ended."""
    return _status_mb(pid, "VmHWM:")


def resident_mb(pid: int) -> float:
    """Return the resident size of a process in MB; 0 for one that has ended."""
    return _status_mb(pid, "VmRSS:")


def _status_mb(pid: int, field: str) -> float:
    try:
        lines = (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0.0)


def listener(port: int) -> int | None:
    """Return the process that listens on a local TCP port; None if there is none that we may look at."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                if any(str(link.readlink()) in sockets for link in (folder / "fd").iterdir()):
                    return int(folder.name)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it ended, or is none of ours
    return None


def _listening(port: int) -> list[str]:
    inodes = []
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.append(fields[9])
    return inodes
