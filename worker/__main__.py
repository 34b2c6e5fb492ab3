"""`python -m worker`: the guardian, which starts the real worker as its child (`--child`)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from interlock.adapters import logs
from interlock.adapters.lifecycle import exit_code_of, run_daemon
from interlock.settings import load
from worker.guardian import Guardian, worker_command
from worker.heartbeat import Heartbeat
from worker.settings import Settings


def main() -> None:
    """Run one worker; exits with 0, 69 (a service cannot be reached) or 78 (configuration)."""
    parser = argparse.ArgumentParser(prog="interlock-worker", description="Interlock's worker: does.")
    parser.add_argument("--config", type=Path, help="a file of INTERLOCK_NAME=value lines")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--heartbeat-fd", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        sys.exit(exit_code_of(lambda: _work(arguments.config, arguments.heartbeat_fd)))
    sys.exit(exit_code_of(lambda: _guard(arguments.config)))


def _guard(config: Path | None) -> int:
    # Read here too: what is wrong is told once, by the process that the operator started.
    settings = load(Settings, config)
    logs.configure(settings.log, settings.log_level, role="guardian")
    command = worker_command()
    given = ("--config", str(config)) if config else ()
    return Guardian((*command[:-1], *given, command[-1]), kill_after=settings.guardian).run()


def _work(config: Path | None, heartbeat_fd: int | None) -> int:
    settings = load(Settings, config)
    logs.configure(settings.log, settings.log_level, role="worker")
    # Imported here, so that the guardian stays small.
    from worker.service import Service  # noqa: PLC0415

    heartbeat = Heartbeat(heartbeat_fd) if heartbeat_fd is not None else None
    return run_daemon(lambda stop: Service(settings, stop, heartbeat).run())


if __name__ == "__main__":
    main()
