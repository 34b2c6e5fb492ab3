"""`python -m worker`: the guardian, which starts the real worker as its child (`--child`)."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from interlock.adapters import faults, logs
from interlock.adapters.lifecycle import exit_code_of, run_daemon
from interlock.contract.errors import Misconfigured
from interlock.settings import load
from worker import lineage
from worker.cgroup import Cgroup, NoCgroup
from worker.guardian import Guardian, worker_command
from worker.heartbeat import Heartbeat
from worker.settings import Settings

LINEAGE: Final = "guardian"
NONE: Final = "none"
"""Levels of containment, beside `cgroup`: killed by lineage, and nobody there to kill."""


def main() -> None:
    """Run one worker; exits with 0, 69 (a service cannot be reached) or 78 (configuration)."""
    parser = argparse.ArgumentParser(prog="interlock-worker", description="Interlock's worker: does.")
    parser.add_argument("--config", type=Path, help="a file of INTERLOCK_NAME=value lines")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--containment", default=NONE, help=argparse.SUPPRESS)
    parser.add_argument("--heartbeat-fd", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        sys.exit(exit_code_of(lambda: _work(arguments.config, arguments.heartbeat_fd, arguments.containment)))
    sys.exit(exit_code_of(lambda: _guard(arguments.config)))


def _guard(config: Path | None) -> int:
    # Read here too: what is wrong is told once, by the process that the operator started.
    settings = load(Settings, config)
    logs.configure(settings.log, settings.log_level, role="guardian")
    group = _group(settings)
    given = ("--config", str(config)) if config else ()
    command = worker_command("--containment", LINEAGE if group is None else group.level, *given)
    try:
        return Guardian(command, kill_after=settings.guardian, group=group).run()
    finally:
        if group is not None:
            group.close()


def _group(settings: Settings) -> Cgroup | None:
    """Make the control group that the worker will live in. Raises Misconfigured where it must have one and cannot."""
    if settings.containment == LINEAGE:
        return None
    try:
        return Cgroup.create()
    except NoCgroup as reason:
        if settings.containment == Cgroup.level:
            raise Misconfigured(f"INTERLOCK_CONTAINMENT: no control group can be had here: {reason}") from None
        logs.get_logger("guardian").info("contained by lineage, not by a control group", reason=str(reason))
        return None


def _work(config: Path | None, heartbeat_fd: int | None, containment: str) -> int:
    settings = load(Settings, config)
    logs.configure(settings.log, settings.log_level, role="worker")
    faults.arm(settings.faults)
    if heartbeat_fd is not None:
        lineage.orphans_go_to(os.getppid())
    # Imported here, so that the guardian stays small.
    from worker.service import Service  # noqa: PLC0415

    heartbeat = Heartbeat(heartbeat_fd) if heartbeat_fd is not None else None
    return run_daemon(lambda stop: Service(settings, stop, heartbeat, containment).run())


if __name__ == "__main__":
    main()
