"""Functions: which may be called, how they are called, and what becomes of what they return, raise or ignore."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from interlock.contract.status import Status
from interlock.results import skip
from tests.eventually import eventually
from worker.runners.function import Context, FunctionRefused, Functions, Target, run_function
from worker.runners.logsink import LogEntry, LogSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.outcome import Outcome

MODULE = """
from os import system
VALUE = 1
async def fetch(path, *, depth=1): return [path, depth]
def square(number, context): context.log(f"attempt {context.attempt}"); return number * number
class Shape:
    async def __call__(self, side): return side
shape = Shape()
def broken(): raise LookupError("nothing at 0x7f") from KeyError("cause")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "shop_of_tests"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "jobs.py").write_text(MODULE)
    (folder / "failing.py").write_text("raise SystemExit('no licence')")
    (folder / "needy.py").write_text("import module_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    return folder.name


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def _context(entries: list[LogEntry] | None = None) -> Context:
    kept: list[LogEntry] = [] if entries is None else entries
    return Context(execution_id="e", attempt=7, sink=LogSink(kept.append))


def _target(call: Callable[..., object], *, is_async: bool = False, wants_context: bool = False) -> Target:
    return Target("test:call", call, is_async, wants_context)


async def _run(target: Target, threads: ThreadPoolExecutor, **params: object) -> Outcome:
    return await run_function(target, params, _context(), executor=threads)


def _error(outcome: Outcome) -> tuple[str, str]:
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    return outcome.failure.error_class, outcome.failure.message


async def test_an_async_function_gets_its_parameters_by_name(package: str, threads: ThreadPoolExecutor) -> None:
    target = Functions([package]).resolve(f"{package}.jobs:fetch")
    outcome = await _run(target, threads, path="/x", depth=3)
    assert (outcome.status, outcome.result_json) == (Status.COMPLETED, '["/x",3]')


async def test_a_function_in_a_thread_gets_its_context_and_logs(package: str, threads: ThreadPoolExecutor) -> None:
    entries: list[LogEntry] = []
    target = Functions([f"{package}.jobs"]).resolve(f"{package}.jobs:square")
    outcome = await run_function(target, {"number": 4}, _context(entries), executor=threads)
    assert outcome.result == 16
    assert [(entry.stream, entry.line) for entry in entries] == [("log", "attempt 7")]


async def test_an_object_with_an_async_call_is_awaited(package: str, threads: ThreadPoolExecutor) -> None:
    target = Functions([package]).resolve(f"{package}.jobs:shape")
    assert (await _run(target, threads, side=2)).result == 2


async def test_a_skip_is_skipped(threads: ThreadPoolExecutor) -> None:
    outcome = await _run(_target(lambda: skip("empty")), threads)
    assert (outcome.status, outcome.result) == (Status.SKIPPED, {"reason": "empty"})


@pytest.mark.parametrize(
    ("name", "code", "part"),
    [
        ("shop_of_tests", "function_invalid", "is not of the form package.module:name"),
        ("shop_of_tests:os.system", "function_invalid", "is not of the form package.module:name"),
        (
            "os:system",
            "function_not_allowed",
            "this worker may not import os (INTERLOCK_FUNCTIONS allows shop_of_tests)",
        ),
        ("shop_of_test:run", "function_not_allowed", "Did you mean shop_of_tests?"),
        ("shop_of_tests.jobs:system", "function_not_allowed", "comes from posix, which is not allowed"),
        ("shop_of_tests.jobs:sqare", "function_not_found", "Did you mean square?"),
        ("shop_of_tests.jobs:VALUE", "function_not_found", "is a int, not a function"),
        ("shop_of_tests.nothing:run", "function_not_found", "no module named shop_of_tests.nothing"),
        (
            "shop_of_tests.failing:run",
            "function_broken",
            "importing shop_of_tests.failing failed: SystemExit: no licence",
        ),
        ("shop_of_tests.needy:run", "function_broken", "No module named 'module_that_is_not_there'"),
    ],
)
def test_a_name_that_cannot_be_run_is_refused_with_what_to_do(package: str, name: str, code: str, part: str) -> None:
    with pytest.raises(FunctionRefused) as refusal:
        Functions([package]).resolve(name)
    assert refusal.value.code == code
    assert part in str(refusal.value)


def test_an_entry_point_publishes_a_function(package: str, tmp_path: Path) -> None:
    info = tmp_path / "shop-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[interlock.functions]\nany = {package}.jobs:system\n")
    functions = Functions([])
    assert functions.resolve(f"{package}.jobs:system").name == f"{package}.jobs:system"
    with pytest.raises(FunctionRefused, match="INTERLOCK_FUNCTIONS allows nothing"):
        functions.resolve(f"{package}.jobs:fetch")


async def test_an_exception_is_a_failure_with_the_users_frames_only(package: str, threads: ThreadPoolExecutor) -> None:
    outcome = await _run(Functions([package]).resolve(f"{package}.jobs:broken"), threads)
    assert _error(outcome) == ("LookupError", "nothing at 0x7f")
    assert outcome.failure is not None
    trace = outcome.failure.traceback or ""
    assert "in broken" in trace
    assert "KeyError: 'cause'" in trace
    assert "thread.py" not in trace
    assert "runners" not in trace


async def test_the_same_failure_has_the_same_fingerprint(threads: ThreadPoolExecutor) -> None:
    def fail(number: int) -> None:
        raise ValueError(f"row {number}")

    one, two = [await _run(_target(fail), threads, number=number) for number in (1, 2)]
    assert one.failure is not None
    assert two.failure is not None
    assert one.failure.fingerprint == two.failure.fingerprint


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), asyncio.CancelledError("own")])
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_nothing_a_function_raises_ends_the_worker(
    error: BaseException,
    kind: str,
    threads: ThreadPoolExecutor,
) -> None:
    async def fail_async() -> None:
        raise error

    def fail() -> None:
        raise error

    outcome = await _run(_target(fail_async if kind == "async" else fail, is_async=kind == "async"), threads)
    expected = "RuntimeError" if isinstance(error, StopIteration) else type(error).__name__
    assert _error(outcome)[0].endswith(expected)


async def test_a_wrong_parameter_is_a_failure(threads: ThreadPoolExecutor) -> None:
    async def none() -> None:
        """Take nothing."""

    error_class, message = _error(await _run(_target(none, is_async=True), threads, extra=1))
    assert error_class == "TypeError"
    assert "unexpected keyword argument 'extra'" in message


async def test_endless_recursion_is_a_bounded_failure(threads: ThreadPoolExecutor) -> None:
    def down() -> None:
        down()

    outcome = await _run(_target(down), threads)
    assert _error(outcome)[0] == "RecursionError"
    assert outcome.failure is not None
    assert len(outcome.failure.traceback or "") < 16_385


async def test_cancel_reaches_an_async_function_at_its_await(threads: ThreadPoolExecutor) -> None:
    started = asyncio.Event()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(_run(_target(wait, is_async=True), threads))
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


async def test_a_cancelled_function_in_a_thread_is_waited_for(threads: ThreadPoolExecutor) -> None:
    started, seen, end = threading.Event(), threading.Event(), threading.Event()
    context = _context()

    def work(context: Context) -> None:
        started.set()
        while not context.cancelled:
            pass
        seen.set()
        end.wait(20)

    async with asyncio.TaskGroup() as group:
        target = _target(work, wants_context=True)
        task = group.create_task(run_function(target, {}, context, executor=threads))
        await eventually(started.is_set)
        task.cancel()
        await eventually(seen.is_set)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.1)
        assert not done
        end.set()
        await asyncio.wait([task])
    assert task.cancelled()


async def test_a_function_that_no_thread_has_begun_is_cancelled_at_once(threads: ThreadPoolExecutor) -> None:
    end = threading.Event()
    ran: list[int] = []
    async with asyncio.TaskGroup() as group:
        blockers = [group.create_task(_run(_target(end.wait), threads, timeout=20)) for _ in range(2)]
        task = group.create_task(_run(_target(ran.append), threads))
        await eventually(lambda: threads._work_queue.qsize() == 1)  # noqa: SLF001 - the only sign that it waits
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        end.set()
        assert [(await blocker).result for blocker in blockers] == [True, True]
    assert ran == []


async def test_a_thread_cannot_log_more_than_the_limit() -> None:
    entries: list[LogEntry] = []
    sink = LogSink(entries.append, lines=3)
    context = Context(execution_id="e", attempt=1, sink=sink)

    def shout() -> None:
        for number in range(100):
            context.log(f"line {number}\nand \0")

    await asyncio.to_thread(shout)
    assert [(entry.number, entry.line) for entry in entries] == [
        (1, "line 0"),
        (2, "and \u2400"),
        (3, "line 1"),
        (4, "log truncated: more than 3 lines or 1,048,576 bytes"),
    ]
    assert sink.full


async def test_the_bytes_of_a_log_are_limited_too() -> None:
    entries: list[LogEntry] = []
    sink = LogSink(entries.append, size=10)
    for _ in range(3):
        sink.write("log", "éé12")
    assert [entry.line for entry in entries] == ["éé12", "log truncated: more than 10,000 lines or 10 bytes"]
