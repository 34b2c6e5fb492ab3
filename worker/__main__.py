"""`python -m worker`: the guardian, which starts the real worker as its child (`--child`)."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from interlock import environment
from worker import lineage
from worker.cgroup import Cgroup, NoCgroup
from worker.guardian import Guardian, worker_command
from worker.heartbeat import Heartbeat

LINEAGE: Final = "guardian"
NONE: Final = "none"
"""Levels of containment, beside `cgroup`: killed by lineage, and nobody there to kill."""


def main() -> None:
    """Run one worker; exits with 0, 69 (a service cannot be reached) or 78 (configuration)."""
    parser = argparse.ArgumentParser(prog="interlock-worker", description="Interlock's worker: does.")
    parser.add_argument("--config", type=Path, help="a file of INTERLOCK_NAME=value lines")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--containment", default=NONE, help=argparse.SUPPRESS)
    parser.add_argument("--no-cgroup", default="", help=argparse.SUPPRESS)
    parser.add_argument("--heartbeat-fd", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.exit(_child(arguments) if arguments.child else _guard(arguments.config))


def _guard(config: Path | None) -> int:
    """Be the guardian. It judges no setting: its first child does, says what is wrong, and ends both."""
    group, reason = None, ""
    if environment.read(config).values.get("INTERLOCK_CONTAINMENT", "").lower() != LINEAGE:
        try:
            group = Cgroup.create()
        except NoCgroup as none:
            reason = str(none)
    level = LINEAGE if group is None else group.level
    given = ("--config", str(config)) if config else ()
    command = worker_command("--containment", level, f"--no-cgroup={reason}", *given)
    try:
        return Guardian(command, group=group).run()
    finally:
        if group is not None:
            group.close()


def _child(arguments: argparse.Namespace) -> int:
    # Imported here and below, so that the guardian stays small.
    from interlock.adapters.lifecycle import exit_code_of  # noqa: PLC0415

    return exit_code_of(lambda: _work(arguments))


def _work(arguments: argparse.Namespace) -> int:
    from interlock.adapters import faults, logs  # noqa: PLC0415
    from interlock.adapters.lifecycle import run_daemon  # noqa: PLC0415
    from interlock.contract.errors import Misconfigured  # noqa: PLC0415
    from interlock.settings import load  # noqa: PLC0415
    from worker.settings import Settings  # noqa: PLC0415

    settings = load(Settings, arguments.config)
    logs.configure(settings.log, settings.log_level, role="worker")
    reason, heartbeat = arguments.no_cgroup, None
    if reason and settings.containment == Cgroup.level:
        raise Misconfigured(f"INTERLOCK_CONTAINMENT: no control group can be had here: {reason}")
    if reason:
        logs.get_logger("worker").info("contained by lineage, not by a control group", reason=reason)
    faults.arm(settings.faults)
    if arguments.heartbeat_fd is not None:
        heartbeat = Heartbeat(arguments.heartbeat_fd, settings.guardian)
        lineage.orphans_go_to(os.getppid())
    # Only now: a wrong setting should be told at once, before everything else is loaded.
    from worker.service import Service  # noqa: PLC0415

    return run_daemon(lambda stop: Service(settings, stop, heartbeat, arguments.containment).run())


if __name__ == "__main__":
    main()
