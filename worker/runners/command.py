"""Runs one command: an argument vector without a shell, in a session and a folder of its own, and nothing outlives it.

It judges only how the process ended. Deadlines are the caller's: it cancels, and the command gets its grace.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.outcome import Outcome, failed, settle, storable
from worker.runners.launcher import PATH, launcher
from worker.runners.process import Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from interlock.contract.resources import Resources
    from worker.runners.grace import Grace
    from worker.runners.logsink import LogSink

INHERITED: Final = ("PATH", "HOME", "LANG", "TZ")
"""What a command may learn from the worker's own environment; `scrubbed` picks it."""

_NOT_EXECUTED: Final = (126, 127)
_SHELL: Final = 128


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what of the worker's environment a command may see: PATH, HOME, LANG and TZ, where they are set."""
    return {name: environ[name] for name in INHERITED if name in environ}


async def run_command(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    sink: LogSink,
    grace: Grace,
    limits: Resources | None = None,
    launch: Sequence[str] | None = None,
) -> Outcome:
    """Run `argv` to its end and return its outcome; its output goes to `sink` line by line.

    `env` is the whole environment (see `scrubbed`); PATH and LANG get defaults, HOME and TMPDIR a private folder
    that is also the working folder and is removed afterwards. stdin is empty. `limits` bind each process of it.

    Exit code 0 is `completed` with `{"exit_code": 0, "stdout": "<its last 4 KiB>"}`. Failures are `ExitCode`,
    `Signal`, `ResourceLimit` (CPU time, file size: the others are errors that the command meets itself),
    `CommandNotFound` and `CommandNotStarted`. What the command left behind is killed, daemons included.

    Cancelled: SIGTERM to its process group, `grace`, SIGKILL to all it started, then CancelledError; or the outcome,
    when the command had ended before the signal. A second cancel ends the grace at once.
    """
    environment = {"PATH": PATH, "LANG": "C.UTF-8", **env}
    problem = _problem(argv, environment["PATH"])
    if problem is not None:
        return problem
    folder = tempfile.mkdtemp(prefix="interlock-")
    try:
        # A name without the INTERLOCK_ prefix, under which unknown settings are refused by our own command line.
        mark = f"_INTERLOCK_RUN={uuid.uuid4().hex}"
        name, _, value = mark.partition("=")
        environment = {"HOME": folder, **environment, "TMPDIR": folder, name: value}
        try:
            started = Process([*(launch or launcher(limits)), *argv], environment, folder, mark, sink)
        except (OSError, ValueError) as error:
            return failed("CommandNotStarted", f"{argv[0]!r} could not be started: {error}")
        return _judge(argv[0], started, await _attend(started, grace), limits)
    finally:
        await _remove(folder)


async def _attend(process: Process, grace: Grace) -> int | None:
    try:
        await process.ended()
    except asyncio.CancelledError:
        if not process.is_over():
            await process.terminate(grace)
            raise
    finally:
        await process.close()
    return process.exit_code


def _problem(argv: Sequence[str], path: str) -> Outcome | None:
    """Say why this cannot be started, where that is known before."""
    program = argv[0]
    if "/" in program and not program.startswith("/"):
        hint = "a command runs in an empty folder of its own: give an absolute path, or a name on PATH"
        return failed("CommandNotFound", f"{program!r} is a relative path; {hint}")
    if shutil.which(program, path=path) is not None:
        return None
    if "/" not in program:
        hint = f"install it where the worker runs, or give its absolute path (PATH is {path})"
        return failed("CommandNotFound", f"{program!r} was not found; {hint}")
    if Path(program).exists():
        return failed("CommandNotFound", f"{program!r} is not an executable file for the worker's user: chmod +x it")
    return failed(
        "CommandNotFound", f"{program!r} does not exist where the worker runs: install it or correct the path"
    )


def _judge(program: str, process: Process, code: int | None, limits: Resources | None) -> Outcome:
    """Make an outcome of an exit code: negative is the number of the signal that killed it."""
    if code == 0:
        return settle({"exit_code": 0, "stdout": storable(process.stdout.tail())}, exit_code=0)
    if code is None:
        return failed(
            "ExitUnknown", "its exit code was taken by other code in the worker, such as os.wait() in a function"
        )
    last = process.stderr.last_line()
    if limits is not None and (exceeded := _exceeded(code, limits)) is not None:
        return failed("ResourceLimit", exceeded, location=program, exit_code=code)
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        return failed("Signal", f"killed by {name}" + (f": {last}" if last else ""), location=program, exit_code=code)
    if code in _NOT_EXECUTED and "failed to execute" in last:
        hint = "is its interpreter (the #! line) installed, are its arguments too long?"
        return failed("CommandNotFound", f"{last.partition(': ')[2]}; {hint}", exit_code=code)
    message = f"exited with {code}" + (f": {last}" if last else "")
    return failed("ExitCode", message, location=program, exit_code=code, kinds=(f"ExitCode/{code}",))


def _exceeded(code: int, limits: Resources) -> str | None:
    """Say which limit the kernel's signal was about. A shell whose child was killed by it exits with 128 more."""
    number = -code if code < 0 else code - _SHELL
    if number == signal.SIGXCPU and limits.cpu is not None:
        return f"used more than {limits.cpu:g} s of CPU time (resources.cpu)"
    if number == signal.SIGXFSZ and limits.file_size is not None:
        return f"wrote a file larger than {limits.file_size:,} bytes (resources.file_size)"
    return None


async def _remove(folder: str) -> None:
    """Remove the private folder; in a thread when it is not empty, because a tree may be large."""
    try:
        os.rmdir(folder)  # noqa: PTH106 - no Path needed for one call per run
    except OSError:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
