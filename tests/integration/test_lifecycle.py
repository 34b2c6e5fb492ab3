"""The life of a daemon's process, seen from outside: real processes, real signals, real exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from interlock.adapters.lifecycle import end_all, meaningful
from interlock.contract.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
HEAD = """
import asyncio, sys
from interlock.adapters import logs
from interlock.adapters.lifecycle import exit_code_of, run_daemon
from interlock.contract.errors import Misconfigured, Unavailable

def say(word):
    print(word, flush=True)

"""
DRAINS = """
async def main(stop):
    say("up")
    await stop.wait()
    say(f"draining {stop.draining}")
    return 7
"""
LINGERS = """
async def main(stop):
    say("up")
    await stop.wait()
    say("draining")
    await asyncio.Event().wait()
"""
HANGS = """
async def main(stop):
    say("up")
    while True:
        pass
"""


@contextmanager
def daemon(body: str, run: str = "run_daemon(main)") -> Iterator[subprocess.Popen[str]]:
    """Start a daemon and kill it at the end of the block if it still lives."""
    script = f"{HEAD}{body}\nsys.exit({run})\n"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def word(process: subprocess.Popen[str]) -> str:
    """Return the next word the daemon says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(body: str, run: str = "run_daemon(main)") -> tuple[int, list[dict[str, Any]]]:
    """Run a daemon that ends by itself; return its exit code and its log lines."""
    with daemon(body, run) as process:
        _, errors = process.communicate(timeout=30)
    return process.returncode, [json.loads(line) for line in errors.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_for_a_drain_and_the_exit_code_is_the_daemons(number: signal.Signals) -> None:
    with daemon(DRAINS) as process:
        assert word(process) == "up"
        process.send_signal(number)
        assert word(process) == "draining True"
        assert process.wait(30) == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_the_process_at_once(number: signal.Signals, code: int) -> None:
    with daemon(LINGERS) as process:
        assert word(process) == "up"
        process.send_signal(signal.SIGTERM)
        assert word(process) == "draining"
        process.send_signal(number)
        assert process.wait(30) == code


def test_a_second_signal_ends_even_a_process_whose_loop_hangs() -> None:
    with daemon(HANGS) as process:
        assert word(process) == "up"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in (130, 143)


def test_a_hang_up_is_ignored_unless_the_daemon_reloads() -> None:
    with daemon(DRAINS) as process:
        assert word(process) == "up"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert word(process) == "draining True"
        assert process.wait(30) == 7
    with daemon(DRAINS, "run_daemon(main, on_reload=lambda: say('reloaded'))") as process:
        assert word(process) == "up"
        process.send_signal(signal.SIGHUP)
        assert word(process) == "reloaded"


def test_a_service_that_cannot_be_reached_is_one_line_and_exit_code_69() -> None:
    code, lines = ended(
        "async def main(stop):\n    raise Unavailable('PostgreSQL at db:5432 does not answer\\nat all')"
    )
    assert code == 69
    assert [(line["level"], line["event"]) for line in lines] == [
        ("error", "PostgreSQL at db:5432 does not answer at all")
    ]
    assert "exception" not in lines[0]


def test_wrong_settings_are_a_line_each_and_exit_code_78_from_inside_a_task_group_too() -> None:
    body = """
async def wrong():
    raise Misconfigured("INTERLOCK_POOL: one\\nINTERLOCK_LOG: two")

async def main(stop):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(wrong())
        tasks.create_task(stop.wait())
"""
    code, lines = ended(body)
    assert (code, [line["event"] for line in lines]) == (78, ["INTERLOCK_POOL: one", "INTERLOCK_LOG: two"])
    assert all("exception" not in line for line in lines)


def test_a_bug_is_logged_with_its_traceback_and_exit_code_1() -> None:
    code, lines = ended("async def main(stop):\n    return 1 / 0")
    assert (code, len(lines)) == (1, 1)
    assert lines[0]["level"] == "critical"
    assert lines[0]["exception"].endswith("ZeroDivisionError: division by zero")


def test_what_happens_before_the_loop_is_mapped_the_same_way() -> None:
    code, lines = ended("def start():\n    raise Misconfigured('INTERLOCK_LOG: wrong')", "exit_code_of(start)")
    assert (code, [line["event"] for line in lines]) == (78, ["INTERLOCK_LOG: wrong"])


def test_the_loop_is_uvloop() -> None:
    body = "async def main(stop):\n    say(type(asyncio.get_running_loop()).__module__)\n    return 0"
    with daemon(body) as process:
        assert word(process) == "uvloop"
        assert process.wait(30) == 0


def test_among_several_errors_a_bug_counts_first_then_settings_then_reachability() -> None:
    unavailable, misconfigured, bug = Unavailable("x"), Misconfigured("x"), ValueError("x")
    assert meaningful(ExceptionGroup("", [unavailable])) is unavailable
    assert meaningful(ExceptionGroup("", [unavailable, ExceptionGroup("", [misconfigured])])) is misconfigured
    assert meaningful(ExceptionGroup("", [misconfigured, ExceptionGroup("", [unavailable, bug])])) is bug
    assert meaningful(bug) is bug


async def test_a_task_that_forgot_its_cancellation_is_cancelled_until_it_ends() -> None:
    began = asyncio.Event()

    async def forgetful() -> None:
        with suppress(asyncio.CancelledError):
            began.set()
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(forgetful())
        await began.wait()
        await end_all([task])
    assert task.cancelled()
