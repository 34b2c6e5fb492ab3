"""Commands, with real processes: what comes back, what is bounded, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from interlock.contract.status import Status
from tests.eventually import eventually
from worker import lineage
from worker.runners.command import run_command, scrubbed
from worker.runners.grace import Grace
from worker.runners.launcher import launcher
from worker.runners.logsink import BYTES, LINES, LogEntry, LogSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.outcome import Outcome

ENV = {"PATH": os.environ["PATH"]}
SH = shutil.which("sh") or ""
# Leaves the session and its parent, tells its pid in argv[1], and stays; argv[2] says what it does with the output.
DAEMON = """
import os, signal, sys
if os.fork(): sys.exit(0)
os.setsid()
if os.fork(): os._exit(0)
if sys.argv[2] == "close":
    for fd in (0, 1, 2): os.close(fd)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1] + ".new", "w") as file: file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
signal.pause()
"""


def _sink() -> tuple[LogSink, list[LogEntry]]:
    entries: list[LogEntry] = []
    return LogSink(entries.append), entries


async def _run(*argv: str, env: dict[str, str] | None = None) -> tuple[Outcome, list[LogEntry]]:
    sink, entries = _sink()
    return await run_command(argv, env=ENV if env is None else env, sink=sink, grace=Grace(5)), entries


async def _python(code: str, *arguments: str) -> tuple[Outcome, list[LogEntry]]:
    return await _run(sys.executable, "-c", code, *arguments)


def _error(outcome: Outcome) -> tuple[str, str]:
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    return outcome.failure.error_class, outcome.failure.message


def _exists(path: str) -> bool:
    return Path(path).exists()


def _alive(pid: int) -> bool:
    one = lineage.kin(pid)
    return one is not None and one.state not in lineage.DEAD


def _pid_in(file: Path) -> Callable[[], int]:
    return lambda: int(file.read_text()) if file.exists() else 0


async def _cancel_when(
    ready: Callable[[], object], *argv: str, grace: float, again: Callable[[], object] | None = None
) -> bool:
    """Run, cancel as soon as `ready`, once more as soon as `again`; whether it ended as cancelled."""
    sink, _ = _sink()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run_command(argv, env=ENV, sink=sink, grace=Grace(grace)))
        await eventually(ready)
        task.cancel()
        if again is not None:
            await eventually(again)
            task.cancel()
        await asyncio.wait([task])
    return task.cancelled()


async def test_a_command_that_exits_with_0_is_completed_with_its_output() -> None:
    outcome, entries = await _run("echo", "hello", "$HOME; `id`")
    assert (outcome.status, outcome.exit_code) == (Status.COMPLETED, 0)
    assert outcome.result == {"exit_code": 0, "stdout": "hello $HOME; `id`\n"}
    assert [(entry.number, entry.stream, entry.line) for entry in entries] == [(1, "stdout", "hello $HOME; `id`")]


async def test_another_exit_code_is_a_failure_with_the_last_line_of_stderr() -> None:
    outcome, entries = await _run(SH, "-c", "echo one >&2; echo 'disk full' >&2; echo >&2; exit 3")
    assert _error(outcome) == ("ExitCode", "exited with 3: disk full")
    assert outcome.exit_code == 3
    assert [entry.line for entry in entries] == ["one", "disk full", ""]


async def test_a_command_killed_by_a_signal_says_which() -> None:
    outcome, _ = await _run(SH, "-c", "kill -KILL $$")
    assert _error(outcome) == ("Signal", "killed by SIGKILL")
    assert outcome.exit_code == -9


async def test_a_command_that_prints_nothing_is_completed() -> None:
    outcome, entries = await _run("true")
    assert outcome.result == {"exit_code": 0, "stdout": ""}
    assert entries == []


@pytest.mark.parametrize(
    ("program", "part"),
    [
        ("no-such-program", "install it where the worker runs, or give its absolute path"),
        ("/no/such/program", "does not exist where the worker runs"),
        ("./program", "give an absolute path, or a name on PATH"),
        ("/etc/passwd", "is not an executable file for the worker's user"),
    ],
)
async def test_a_missing_program_says_what_to_do(program: str, part: str) -> None:
    outcome, _ = await _run(program)
    error_class, message = _error(outcome)
    assert error_class == "CommandNotFound"
    assert part in message


async def test_a_script_without_its_interpreter_says_so(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    outcome, _ = await _run(str(script))
    error_class, message = _error(outcome)
    assert error_class == "CommandNotFound"
    assert "is its interpreter (the #! line) installed" in message


async def test_an_argument_with_a_nul_character_is_a_failure() -> None:
    outcome, _ = await _run("echo", "a\0b")
    assert _error(outcome) == ("CommandNotStarted", "'echo' could not be started: embedded null byte")


async def test_output_that_is_no_text_is_shown_by_substitutes() -> None:
    outcome, entries = await _python(r"import os; os.write(1, b'a\0b\xff\ncr\r\nlast')")
    assert [entry.line for entry in entries] == ["a\u2400b\ufffd", "cr", "last"]
    assert outcome.result == {"exit_code": 0, "stdout": "a\u2400b\ufffd\ncr\r\nlast"}


async def test_a_long_line_is_cut() -> None:
    _, entries = await _python("print('é' * 300_000); print('next')")
    assert [len(entry.line.encode()) for entry in entries] == [8191, 4]
    assert entries[0].line.endswith("é…")


async def test_100_megabytes_of_output_neither_block_the_command_nor_fill_the_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome, entries = await _python(
        "import os\nfor _ in range(1600): os.write(1, (b'x' * 99 + b'\\n') * 655)\nos.write(1, b'the end\\n')"
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert isinstance(outcome.result, dict)
    assert outcome.result["stdout"].endswith("x\nthe end\n")
    assert len(outcome.result["stdout"]) == 4096
    assert entries[-1].line == f"log truncated: more than {LINES:,} lines or {BYTES:,} bytes"
    assert len(entries) <= LINES + 1
    assert sum("truncated" in entry.line for entry in entries) == 1
    assert grown < 30_000  # KiB


async def test_the_environment_is_what_was_given_and_the_folder_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "1")
    sink, entries = _sink()
    program = (
        "import os, sys; print(os.listdir(), repr(sys.stdin.read()))\n"
        "os.mkdir('deep'); open('deep/left', 'w').close()\n"
        "print(sorted(os.environ)); print(os.getcwd()); print(os.environ['HOME'], os.environ['TMPDIR'])"
    )
    await run_command([sys.executable, "-ISc", program], env={**ENV, "GIVEN": "x"}, sink=sink, grace=Grace(5))
    empty, names, folder, homes = (entry.line for entry in entries)
    assert empty == "[] ''"
    assert names == str(["GIVEN", "HOME", "LANG", "PATH", "TMPDIR", "_INTERLOCK_RUN"])
    assert homes == f"{folder} {folder}"
    assert not _exists(folder)


def test_only_four_variables_of_the_worker_are_handed_on() -> None:
    environ = {"PATH": "p", "HOME": "h", "LANG": "l", "TZ": "t", "INTERLOCK_DATABASE_URL": "secret"}
    assert scrubbed(environ) == {"PATH": "p", "HOME": "h", "LANG": "l", "TZ": "t"}


async def test_a_command_cannot_gain_rights_and_dies_with_its_worker() -> None:
    code = (
        "import ctypes\n"
        "number = ctypes.c_int()\n"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(number))\n"
        "print(number.value, ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))"
    )
    for launch in (launcher(), launcher(path="/nowhere")):
        sink, entries = _sink()
        await run_command([sys.executable, "-c", code], env=ENV, sink=sink, grace=Grace(5), launch=launch)
        assert [entry.line for entry in entries] == ["9 1"]


async def test_without_setpriv_a_missing_interpreter_is_still_told(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    sink, _ = _sink()
    outcome = await run_command([str(script)], env=ENV, sink=sink, grace=Grace(5), launch=launcher(path="/nowhere"))
    assert _error(outcome)[0] == "CommandNotFound"


@pytest.mark.parametrize("output", ["keep", "close"])
async def test_a_daemon_left_behind_is_killed_and_does_not_hold_up_the_end(tmp_path: Path, output: str) -> None:
    file = tmp_path / "pid"
    wait = f'{sys.executable} -c "$1" {file} {output}; while [ ! -e {file} ]; do :; done; echo done'
    outcome, _ = await _run(SH, "-c", wait, "sh", DAEMON)
    assert outcome.result == {"exit_code": 0, "stdout": "done\n"}
    assert not _alive(int(file.read_text()))


async def test_a_background_child_in_the_group_is_killed_when_the_command_ends() -> None:
    outcome, entries = await _run(SH, "-c", "sleep 1000 & echo $!")
    assert outcome.status is Status.COMPLETED
    assert not _alive(int(entries[0].line))


async def test_cancel_lets_the_command_clean_up_within_its_grace(tmp_path: Path) -> None:
    ready, cleaned = tmp_path / "ready", tmp_path / "cleaned"
    script = f"trap 'echo > {cleaned}; exit 0' TERM; echo > {ready}; while :; do sleep 0.05; done"
    assert await _cancel_when(ready.exists, SH, "-c", script, grace=30)
    assert cleaned.exists()


async def test_cancel_kills_what_ignores_it_with_all_its_descendants(tmp_path: Path) -> None:
    daemon, own = tmp_path / "daemon", tmp_path / "own"
    script = (
        f"trap '' TERM; echo $$ > {own}; setsid {sys.executable} -c \"$1\" {daemon} keep & while :; do sleep 0.05; done"
    )
    assert await _cancel_when(_pid_in(daemon), SH, "-c", script, "sh", DAEMON, grace=0.2)
    assert not _alive(int(own.read_text()))
    assert not _alive(int(daemon.read_text()))


async def test_a_second_cancel_ends_the_grace_at_once(tmp_path: Path) -> None:
    own, heard = tmp_path / "own", tmp_path / "heard"
    script = f"trap 'echo > {heard}' TERM; echo $$ > {own}.new; mv {own}.new {own}; while :; do sleep 0.05; done"
    assert await _cancel_when(_pid_in(own), SH, "-c", script, grace=1000, again=heard.exists)
    assert not _alive(int(own.read_text()))


async def test_a_grace_that_is_cut_off_ends_the_command_and_all_its_descendants_at_once(tmp_path: Path) -> None:
    daemon, heard = tmp_path / "daemon", tmp_path / "heard"
    script = (
        f"trap 'echo > {heard}' TERM; setsid {sys.executable} -c \"$1\" {daemon} keep & while :; do sleep 0.05; done"
    )
    sink, _ = _sink()
    grace = Grace(1000)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task = group.create_task(run_command([SH, "-c", script, "sh", DAEMON], env=ENV, sink=sink, grace=grace))
        await eventually(_pid_in(daemon))
        task.cancel()
        await eventually(heard.exists)
        grace.cut_off()
        await asyncio.wait([task])
    assert task.cancelled()
    assert not _alive(int(daemon.read_text()))


async def test_a_stopped_command_hears_its_cancel(tmp_path: Path) -> None:
    own = tmp_path / "own"
    script = f"echo $$ > {own}.new; mv {own}.new {own}; kill -STOP $$"

    def stopped() -> bool:
        one = lineage.kin(_pid_in(own)())
        return one is not None and one.state == "T"

    assert await _cancel_when(stopped, SH, "-c", script, grace=1000)
    assert not _alive(int(own.read_text()))


async def test_a_cancel_that_comes_after_the_end_does_not_hide_the_outcome(tmp_path: Path) -> None:
    own, go = tmp_path / "own", tmp_path / "go"
    sink, _ = _sink()
    async with asyncio.TaskGroup() as group:
        script = f"echo $$ > {own}.new; mv {own}.new {own}; while [ ! -e {go} ]; do :; done; exit 4"
        task = group.create_task(run_command([SH, "-c", script], env=ENV, sink=sink, grace=Grace(1000)))
        await eventually(_pid_in(own))
        pid = int(own.read_text())
        # From here the loop is not given back, so nothing has noticed the end when the cancel arrives.
        go.touch()
        while _alive(pid):
            pass
        task.cancel()
        outcome = await task
    assert _error(outcome) == ("ExitCode", "exited with 4")


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_file_descriptors_and_children_do_not_pile_up() -> None:
    await _run("true")
    before = _open_files()
    for _ in range(5):
        await _run("true")
    assert _open_files() == before
    assert lineage.descendants(os.getpid(), lineage.processes()) == []
