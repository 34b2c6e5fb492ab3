"""`python -m executor`: settings, logs, then the service until it is asked to stop."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from executor.settings import Settings
from interlock.adapters import faults, logs
from interlock.adapters.lifecycle import exit_code_of, run_daemon
from interlock.settings import load


def main() -> None:
    """Run one executor; exits with 0, 69 (a service cannot be reached) or 78 (configuration)."""
    parser = argparse.ArgumentParser(prog="interlock-executor", description="Interlock's executor: decides.")
    parser.add_argument("--config", type=Path, help="a file of INTERLOCK_NAME=value lines")
    arguments = parser.parse_args()
    sys.exit(exit_code_of(lambda: _start(arguments.config)))


def _start(config: Path | None) -> int:
    settings = load(Settings, config)
    logs.configure(settings.log, settings.log_level, role="executor")
    faults.arm(settings.faults)
    # Imported here: a wrong setting should be told at once, before everything else is loaded.
    from executor.service import Service  # noqa: PLC0415

    return run_daemon(lambda stop: Service(settings, stop).run())


if __name__ == "__main__":
    main()
