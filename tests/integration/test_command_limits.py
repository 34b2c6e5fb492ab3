"""What a command may use up: limits that the kernel keeps, what is told when one is met, and whom they bind."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from interlock.contract.resources import Resources
from interlock.contract.status import Status
from worker.runners.command import run_command
from worker.runners.grace import Grace
from worker.runners.launcher import launcher
from worker.runners.logsink import LogEntry, LogSink

if TYPE_CHECKING:
    from pathlib import Path

    from worker.outcome import Outcome

SH = shutil.which("sh") or ""
ALL = Resources.model_validate({"memory": "4GiB", "cpu": "60s", "files": 100, "processes": 1000, "file_size": "1MiB"})
SHOW = """
import resource
for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_FSIZE"):
    print(*resource.getrlimit(getattr(resource, name)))
"""
WITHOUT_TOOLS = "/nowhere"


async def _run(limits: Resources | None, *argv: str, path: str | None = None) -> tuple[Outcome, list[str]]:
    entries: list[LogEntry] = []
    launch = None if path is None else launcher(limits, path=path)
    sink = LogSink(entries.append)
    outcome = await run_command(
        argv, env={"PATH": os.environ["PATH"]}, sink=sink, grace=Grace(5), limits=limits, launch=launch
    )
    return outcome, [entry.line for entry in entries]


async def _python(limits: Resources | None, code: str, path: str | None = None) -> tuple[Outcome, list[str]]:
    return await _run(limits, sys.executable, "-ISc", code, path=path)


def _error(outcome: Outcome) -> tuple[str, str]:
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    return outcome.failure.error_class, outcome.failure.message


@pytest.mark.parametrize("path", [None, WITHOUT_TOOLS], ids=["with prlimit", "without prlimit"])
async def test_a_command_runs_under_the_limits_of_its_definition(path: str | None) -> None:
    _, lines = await _python(ALL, SHOW, path)
    assert lines == [f"{4 << 30} {4 << 30}", "60 65", "100 100", "1000 1000", f"{1 << 20} {1 << 20}"]


async def test_a_limit_above_the_workers_own_is_the_workers_own() -> None:
    _, own = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, lines = await _python(Resources(files=1_000_000), "import resource; print(*resource.getrlimit(7))")
    assert lines == [f"{min(own, 1_000_000)} {min(own, 1_000_000)}"]


async def test_without_limits_a_command_may_what_its_worker_may() -> None:
    _, lines = await _python(None, SHOW)
    own = [
        "{} {}".format(*resource.getrlimit(number))
        for number in (
            resource.RLIMIT_AS,
            resource.RLIMIT_CPU,
            resource.RLIMIT_NOFILE,
            resource.RLIMIT_NPROC,
            resource.RLIMIT_FSIZE,
        )
    ]
    assert lines == own
    assert launcher(Resources()) == launcher()


async def test_the_limits_of_a_command_are_not_those_of_its_worker() -> None:
    before = [resource.getrlimit(number) for number in range(16)]
    await _run(ALL, "true")
    assert [resource.getrlimit(number) for number in range(16)] == before


async def test_a_command_that_uses_up_its_cpu_time_is_told_so() -> None:
    outcome, _ = await _python(Resources(cpu=1), "while True: pass")
    assert _error(outcome) == ("ResourceLimit", "used more than 1 s of CPU time (resources.cpu)")
    assert outcome.exit_code == -24


async def test_a_shell_whose_child_used_up_its_cpu_time_is_told_so_too() -> None:
    outcome, _ = await _run(Resources(cpu=1), SH, "-c", f"{sys.executable} -ISc 'while True: pass'; exit $?")
    assert _error(outcome) == ("ResourceLimit", "used more than 1 s of CPU time (resources.cpu)")
    assert outcome.exit_code == 152


@pytest.mark.parametrize("path", [None, WITHOUT_TOOLS], ids=["with prlimit", "without prlimit"])
async def test_a_file_that_grows_too_large_ends_its_command(path: str | None) -> None:
    outcome, _ = await _run(
        Resources(file_size=4096), "dd", "if=/dev/zero", "of=large", "bs=1024", "count=8", "status=none", path=path
    )
    assert _error(outcome) == ("ResourceLimit", "wrote a file larger than 4,096 bytes (resources.file_size)")


async def test_memory_beyond_the_limit_is_refused_to_the_command_which_fails_in_its_own_words() -> None:
    outcome, _ = await _python(Resources(memory=1 << 28), "bytearray(1 << 30)")
    assert _error(outcome) == ("ExitCode", "exited with 1: MemoryError")


async def test_open_files_beyond_the_limit_are_refused() -> None:
    outcome, _ = await _python(Resources(files=20), "held = [open('/dev/null') for _ in range(30)]")
    assert _error(outcome)[1].startswith("exited with 1: OSError: [Errno 24]")


async def test_the_same_signals_without_such_a_limit_stay_signals() -> None:
    outcome, _ = await _run(Resources(files=100), SH, "-c", "kill -XCPU $$")
    assert _error(outcome) == ("Signal", "killed by SIGXCPU")


@pytest.mark.parametrize("limits", [None, ALL])
@pytest.mark.parametrize("path", [None, WITHOUT_TOOLS], ids=["with tools", "without tools"])
async def test_limits_take_nothing_from_the_other_safeguards(limits: Resources | None, path: str | None) -> None:
    code = (
        "import ctypes\n"
        "number = ctypes.c_int()\n"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(number))\n"
        "print(number.value, ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))"
    )
    _, lines = await _run(limits, sys.executable, "-c", code, path=path)
    assert lines == ["9 1"]


@pytest.mark.parametrize("path", [None, WITHOUT_TOOLS], ids=["with prlimit", "without prlimit"])
async def test_a_missing_interpreter_is_still_told(path: str | None, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    outcome, _ = await _run(ALL, str(script), path=path)
    assert _error(outcome)[0] == "CommandNotFound"
