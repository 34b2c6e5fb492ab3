"""Functions in processes of their own: what crosses, what is bounded, what is killed, and what is used again."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from interlock.contract.status import Status
from tests.eventually import eventually
from worker import lineage
from worker.runners.function import FunctionRefused
from worker.runners.grace import Grace
from worker.runners.logsink import LogEntry, LogSink
from worker.runners.warm import WarmProcesses, surrounding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from worker.outcome import Outcome

MODULE = """
import asyncio, os, signal, sys, threading, time
from interlock import partial, skip

def pid(): return os.getpid()
async def pid_async(): return os.getpid()
def told(number, context): return [number, context.execution_id, context.attempt, threading.current_thread().name]
def environment(): return dict(os.environ)
def counts(): return partial({"a": 1}, total=2, completed=1)
def none(): return skip("nothing to do")
def fail(): raise LookupError("nothing at 0x7f") from KeyError("cause")
def unstorable(): return {"a": {1, 2}}
def large(): return "x" * (2 << 20)
def leave(code): os._exit(code)
def crash(): os.kill(os.getpid(), signal.SIGSEGV)
def shout(context):
    print("printed")
    print("to stderr", file=sys.stderr)
    context.log("logged")
    sys.stdout.write("without an end")
def flood(context):
    for number in range(30_000): context.log("x" * 100)
def ready(file):
    with open(file + ".new", "w") as made: made.write(str(os.getpid()))
    os.rename(file + ".new", file)
def wait_for_word(file, context):
    ready(file)
    while not context.cancelled: time.sleep(0.01)
    ready(file + ".heard")
async def wait_at_await(file):
    ready(file)
    try: await asyncio.Event().wait()
    finally: ready(file + ".heard")
def deaf(file):
    ready(file)
    while True: time.sleep(0.01)
def stopped(file):
    ready(file)
    os.kill(os.getpid(), signal.SIGSTOP)
def daemon(file, ends):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            ready(file)
            signal.pause()
        os._exit(0)
    os.wait()
    while not os.path.exists(file): time.sleep(0.01)
    if not ends: signal.pause()
def babble():
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"): os.write(int(name), b"\\xff" * 100)
        except OSError: pass
    signal.pause()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "jobs_of_tests.py").write_text(MODULE)
    (tmp_path / "jobs_that_break.py").write_text("raise OSError('no licence')")
    monkeypatch.syspath_prepend(tmp_path)
    return str(tmp_path)


@pytest.fixture
async def warm(home: str) -> AsyncIterator[WarmProcesses]:
    """Warm processes that end with the test; nothing of theirs may be left then."""
    assert home
    pool = WarmProcesses(["jobs_of_tests", "jobs_that_break"], {"PATH": os.environ["PATH"], "OWN": "1"})
    async with asyncio.TaskGroup() as group:
        tending = group.create_task(pool.tend())
        yield pool
        tending.cancel()
    await eventually(lambda: lineage.descendants(os.getpid(), lineage.processes()) == [])


async def _run(
    pool: WarmProcesses,
    name: str,
    entries: list[LogEntry] | None = None,
    grace: float = 5,
    **params: Any,  # noqa: ANN401 - what functions take
) -> Outcome:
    kept: list[LogEntry] = [] if entries is None else entries
    function = name if ":" in name else f"jobs_of_tests:{name}"
    return await pool.run(function, params, execution_id="e", attempt=7, sink=LogSink(kept.append), grace=Grace(grace))


def _error(outcome: Outcome) -> tuple[str, str]:
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    return outcome.failure.error_class, outcome.failure.message


def _pid_in(file: Path) -> int:
    return int(file.read_text())


def _alive(pid: int) -> bool:
    one = lineage.kin(pid)
    return one is not None and one.state not in lineage.DEAD


async def _cancelled(
    pool: WarmProcesses,
    name: str,
    file: Path,
    grace: float,
    *,
    again: bool = False,
    **params: Any,  # noqa: ANN401 - what functions take
) -> int:
    """Cancel a call as soon as it runs, once more if `again`; return the pid of its process when it has ended."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_run(pool, name, grace=grace, file=str(file), **params))
        await eventually(file.exists)
        task.cancel()
        if again:
            await asyncio.wait([task], timeout=0.1)
            assert not task.done()
            task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    return _pid_in(file)


async def test_a_function_gets_its_parameters_and_context_in_another_process(warm: WarmProcesses) -> None:
    outcome = await _run(warm, "told", number=4)
    assert (outcome.status, outcome.result) == (Status.COMPLETED, [4, "e", 7, "action_0"])
    assert outcome.result_json == '[4,"e",7,"action_0"]'
    assert (await _run(warm, "pid")).result != os.getpid()


async def test_one_process_serves_one_call_after_the_other_and_async_ones_too(warm: WarmProcesses) -> None:
    pids = [(await _run(warm, name)).result for name in ("pid", "pid_async", "pid")]
    assert len(set(map(str, pids))) == 1


async def test_calls_at_the_same_time_have_processes_of_their_own(warm: WarmProcesses, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        files = [tmp_path / name for name in ("one", "two")]
        tasks = [group.create_task(_run(warm, "wait_for_word", file=str(file))) for file in files]
        await eventually(lambda: all(file.exists() for file in files))
        assert len({file.read_text() for file in files}) == 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_what_a_function_may_return_it_may_return_from_a_process(warm: WarmProcesses) -> None:
    counts = await _run(warm, "counts")
    assert (counts.status, counts.result) == (
        Status.PARTIAL,
        {"result": {"a": 1}, "items": {"total": 2, "completed": 1}},
    )
    none = await _run(warm, "none")
    assert (none.status, none.result) == (Status.SKIPPED, {"reason": "nothing to do"})


async def test_an_exception_crosses_as_what_the_worker_itself_would_have_made_of_it(warm: WarmProcesses) -> None:
    outcome = await _run(warm, "fail")
    assert _error(outcome) == ("LookupError", "nothing at 0x7f")
    assert outcome.failure is not None
    trace = outcome.failure.traceback or ""
    assert "in fail" in trace
    assert "KeyError: 'cause'" in trace
    assert "runners" not in trace
    assert outcome.failure.kinds == ("LookupError", "Exception", "BaseException")


@pytest.mark.parametrize(("name", "error_class"), [("unstorable", "ResultNotJson"), ("large", "ResultTooLarge")])
async def test_results_are_bounded_before_they_cross(warm: WarmProcesses, name: str, error_class: str) -> None:
    assert _error(await _run(warm, name))[0] == error_class


async def test_what_is_printed_and_logged_is_the_log_of_the_call_that_did_it(warm: WarmProcesses) -> None:
    await _run(warm, "pid")
    entries: list[LogEntry] = []
    await _run(warm, "shout", entries)
    assert sorted((entry.stream, entry.line) for entry in entries) == [
        ("log", "logged"),
        ("stderr", "to stderr"),
        ("stdout", "printed"),
        ("stdout", "without an end"),
    ]
    later: list[LogEntry] = []
    await _run(warm, "pid", later)
    assert later == []


async def test_a_flood_of_log_lines_is_cut_where_any_log_is(warm: WarmProcesses) -> None:
    entries: list[LogEntry] = []
    outcome = await _run(warm, "flood", entries)
    assert outcome.status is Status.COMPLETED
    assert len(entries) == 10_001
    assert entries[-1].line.startswith("log truncated")


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("leave", {"code": 3}, "the process that ran it exited with 3"),
        ("leave", {"code": 0}, "the process that ran it exited with 0"),
        ("crash", {}, "the process that ran it was killed by SIGSEGV"),
    ],
)
async def test_a_process_that_dies_fails_its_call_alone(
    warm: WarmProcesses, name: str, params: dict[str, Any], message: str
) -> None:
    assert _error(await _run(warm, name, **params)) == ("ProcessDied", message)
    assert (await _run(warm, "told", number=1)).status is Status.COMPLETED


async def test_a_process_that_died_between_two_calls_is_replaced_unseen(warm: WarmProcesses) -> None:
    pid = (await _run(warm, "pid")).result
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not _alive(pid))
    assert (await _run(warm, "pid")).result != pid


async def test_bytes_that_are_no_answer_fail_the_call_and_end_the_process(warm: WarmProcesses) -> None:
    assert _error(await _run(warm, "babble"))[0] == "ProcessDied"


@pytest.mark.parametrize("name", ["wait_for_word", "wait_at_await"])
async def test_a_cancel_is_heard_inside_and_what_ends_within_its_grace_is_cancelled(
    warm: WarmProcesses, name: str, tmp_path: Path
) -> None:
    await _cancelled(warm, name, tmp_path / "file", grace=30)
    assert (tmp_path / "file.heard").exists()


@pytest.mark.parametrize("name", ["deaf", "stopped"])
async def test_what_does_not_hear_its_cancel_is_killed_after_its_grace(
    warm: WarmProcesses, name: str, tmp_path: Path
) -> None:
    pid = await _cancelled(warm, name, tmp_path / "file", grace=0.2)
    assert not _alive(pid)
    assert (await _run(warm, "pid")).result != pid


async def test_a_second_cancel_ends_the_grace_at_once(warm: WarmProcesses, tmp_path: Path) -> None:
    assert not _alive(await _cancelled(warm, "deaf", tmp_path / "file", grace=1000, again=True))


async def test_a_timeout_kills_what_a_thread_would_have_gone_on_with(warm: WarmProcesses, tmp_path: Path) -> None:
    file = tmp_path / "file"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await _run(warm, "deaf", grace=0.1, file=str(file))
    assert not _alive(int(file.read_text()))


@pytest.mark.parametrize("ends", [True, False])
async def test_what_a_function_daemonized_dies_with_its_call_and_the_process_is_not_used_again(
    warm: WarmProcesses, tmp_path: Path, *, ends: bool
) -> None:
    before, file = (await _run(warm, "pid")).result, tmp_path / "file"
    if ends:
        assert (await _run(warm, "daemon", file=str(file), ends=True)).status is Status.COMPLETED
    else:
        await _cancelled(warm, "daemon", file, grace=0.1, ends=False)
    assert not _alive(int(file.read_text()))
    assert (await _run(warm, "pid")).result != before


async def test_a_name_that_is_not_allowed_is_refused_as_in_the_worker(warm: WarmProcesses) -> None:
    with pytest.raises(FunctionRefused, match="this worker may not import os") as refusal:
        await _run(warm, "os:system")
    assert refusal.value.code == "function_not_allowed"
    with pytest.raises(FunctionRefused, match="no licence") as refusal:
        await _run(warm, "jobs_that_break:run")
    assert refusal.value.code == "function_broken"


async def test_a_function_sees_the_environment_that_was_given_and_nothing_of_ours(warm: WarmProcesses) -> None:
    found = (await _run(warm, "environment")).result
    assert isinstance(found, dict)
    assert {name for name in found if name != "LC_CTYPE"} == {"PATH", "OWN", "_INTERLOCK_RUN"}


def test_of_the_workers_environment_everything_is_handed_on_but_what_is_ours() -> None:
    own = {"HOME": "h", "SHOP_TOKEN": "t"}
    ours = {"INTERLOCK_DATABASE_URL": "secret", "NOTIFY_SOCKET": "n", "WATCHDOG_USEC": "1"}
    assert surrounding(own | ours) == own


async def test_a_process_that_idles_is_ended(home: str) -> None:
    assert home
    pool = WarmProcesses(["jobs_of_tests"], {}, idle=0.2)
    async with asyncio.TaskGroup() as group:
        tending = group.create_task(pool.tend())
        pid = (await _run(pool, "pid")).result
        assert isinstance(pid, int)
        await eventually(lambda: lineage.kin(pid) is None)
        assert (await _run(pool, "pid")).result != pid
        tending.cancel()


async def test_file_descriptors_do_not_pile_up(warm: WarmProcesses) -> None:
    await _run(warm, "pid")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        await _run(warm, "leave", code=1)
        await _run(warm, "pid")
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
