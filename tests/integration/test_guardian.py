"""The guardian, with real processes: nothing of a worker's tree outlives the worker or its lease."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.eventually import eventually
from worker import lineage
from worker.cgroup import Cgroup, NoCgroup, own_group
from worker.heartbeat import BEAT, Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent.parent
GUARDIAN = """
import sys
from worker.cgroup import Cgroup
from worker.guardian import Guardian
group = Cgroup.create() if sys.argv[3] == "cgroup" else None
command = [sys.executable, "-c", sys.argv[1], *sys.argv[4:]]
code = Guardian(command, startup=float(sys.argv[2]), group=group).run()
if group is not None:
    group.close()
sys.exit(code)
"""
BOTH = pytest.mark.parametrize("level", ["guardian", "cgroup"])
# What each worker of these tests begins with: helpers that tell pids through files in the folder argv[1], and beats
# that are good for argv[2] seconds.
PRELUDE = """
import os, signal, sys, time
from worker.heartbeat import Heartbeat
folder, heart = sys.argv[1], Heartbeat(int(sys.argv[-1]), float(sys.argv[2]))
def tell(name):
    path = f"{folder}/{name}-{os.getpid()}"
    open(path, "w").close()
def daemon():
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            tell("daemon")
            os.write(writer, b"x")
            signal.pause()
        os._exit(0)
    os.wait()
    os.read(reader, 1)
def beat(sent=None):
    heart.beat(time.monotonic() if sent is None else sent)
    signal.sigtimedwait([], 0.02)
def beat_for_ever():
    while True:
        beat()
"""


class Guarded:
    """A running guardian and the pids that its workers told, by name, in the order of telling."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process, self.folder = process, folder

    def told(self, name: str) -> list[int]:
        files = sorted(self.folder.glob(f"{name}-*"), key=lambda file: file.stat().st_mtime_ns)
        return [int(file.name.rpartition("-")[2]) for file in files]

    async def first(self, name: str) -> int:
        return (await eventually(lambda: self.told(name)))[0]

    async def second(self, name: str) -> int:
        return (await eventually(lambda: self.told(name)[1:], timeout=20))[0]

    async def ended(self) -> int:
        await eventually(lambda: self.process.poll() is not None, timeout=20)
        return self.process.returncode

    def tree(self) -> list[int]:
        return [one.pid for one in lineage.descendants(self.process.pid, lineage.processes())]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Guarded]]:
    begun: list[subprocess.Popen[bytes]] = []

    def begin(worker: str, *, kill_after: float = 60, startup: float = 60, level: str = "guardian") -> Guarded:
        if level == "cgroup":
            needs_cgroup()
        arguments = [PRELUDE + worker, str(startup), level, str(tmp_path), str(kill_after)]
        process = subprocess.Popen([sys.executable, "-c", GUARDIAN, *arguments], cwd=ROOT, stderr=subprocess.DEVNULL)
        begun.append(process)
        return Guarded(process, tmp_path)

    yield begin
    for process in begun:
        process.kill()
        process.wait()
    # A guardian that is killed itself cannot kill what its workers daemonized: every pid told is in the folder.
    for told in tmp_path.glob("*-*"):
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(told.name.rpartition("-")[2]), signal.SIGKILL)


def needs_cgroup() -> None:
    """Skip a test where a real attempt finds that there is none."""
    try:
        Cgroup.create().close()
    except NoCgroup as reason:
        pytest.skip(f"no control group can be had here: {reason}")


def _group_of(pid: int) -> str:
    """The group of a process below that of these tests; empty when it is in the same."""
    told = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return told.removeprefix(own).strip("/")


def _alive(pid: int) -> bool:
    one = lineage.kin(pid)
    return one is not None and one.state not in lineage.DEAD


@BOTH
async def test_a_killed_worker_takes_its_daemons_along_and_is_started_anew(
    start: Callable[..., Guarded], level: str
) -> None:
    guarded = start("daemon(); tell('worker'); beat_for_ever()", level=level)
    worker = await guarded.first("worker")
    daemon = guarded.told("daemon")[0]
    os.kill(worker, signal.SIGKILL)
    assert await guarded.second("worker") != worker
    # The old tree was gone before the new worker was there to tell.
    assert not _alive(daemon)
    assert guarded.process.poll() is None


async def test_a_worker_that_crashes_is_started_anew(start: Callable[..., Guarded]) -> None:
    guarded = start("tell('worker'); sys.exit(1)")
    await guarded.second("worker")


@BOTH
async def test_a_stopped_worker_is_killed_with_its_tree(start: Callable[..., Guarded], level: str) -> None:
    # It beats before it tells: one that never beat is left the time of its start.
    guarded = start("daemon(); beat(); tell('worker'); beat_for_ever()", kill_after=0.5, level=level)
    worker = await guarded.first("worker")
    daemon = guarded.told("daemon")[0]
    os.kill(worker, signal.SIGSTOP)
    await guarded.second("worker")
    assert not _alive(worker)
    assert not _alive(daemon)


async def test_a_worker_whose_renewals_are_old_is_killed_although_it_beats(start: Callable[..., Guarded]) -> None:
    guarded = start("tell('worker')\nwhile True: beat(time.monotonic() - 10)", kill_after=5)
    await guarded.second("worker")


async def test_good_renewals_keep_a_worker_alive(start: Callable[..., Guarded]) -> None:
    worker = (
        "tell('worker'); end = time.monotonic() + 3\nwhile time.monotonic() < end: beat()\ntell('done'); sys.exit(0)"
    )
    guarded = start(worker, kill_after=1, startup=20)
    assert await guarded.ended() == 0
    assert guarded.told("done") == guarded.told("worker")


async def test_a_worker_that_never_beats_is_killed_after_its_start_up_time(start: Callable[..., Guarded]) -> None:
    guarded = start("tell('worker'); signal.pause()", kill_after=0.1, startup=1)
    worker = await guarded.first("worker")
    await guarded.second("worker")
    assert not _alive(worker)


async def test_sigterm_drains_and_a_second_one_reaches_the_worker_too(start: Callable[..., Guarded]) -> None:
    worker = (
        "heard = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: (heard.append(1), tell(f'term{len(heard)}')))\n"
        "daemon(); tell('worker')\n"
        "while len(heard) < 2: beat()\n"
        "sys.exit(3)"
    )
    guarded = start(worker)
    await guarded.first("worker")
    daemon = guarded.told("daemon")[0]
    guarded.process.send_signal(signal.SIGTERM)
    await guarded.first("term1")
    assert guarded.process.poll() is None
    guarded.process.send_signal(signal.SIGINT)
    assert await guarded.ended() == 3
    assert guarded.told("term2") == guarded.told("worker")
    assert not _alive(daemon)


@pytest.mark.parametrize("code", [0, 69, 78])
async def test_an_exit_code_that_is_final_ends_the_guardian_with_it(start: Callable[..., Guarded], code: int) -> None:
    guarded = start(f"daemon(); tell('worker'); sys.exit({code})")
    assert await guarded.ended() == code
    assert not _alive(guarded.told("daemon")[0])
    assert len(guarded.told("worker")) == 1


async def test_a_worker_killed_while_it_drains_is_a_failure(start: Callable[..., Guarded]) -> None:
    guarded = start(
        "signal.signal(signal.SIGTERM, lambda *_: tell('term')); tell('worker')\nwhile True: signal.pause()"
    )
    worker = await guarded.first("worker")
    guarded.process.send_signal(signal.SIGTERM)
    await guarded.first("term")
    os.kill(worker, signal.SIGKILL)
    assert await guarded.ended() == 1


async def test_sigterm_between_two_workers_ends_the_guardian(start: Callable[..., Guarded]) -> None:
    guarded = start("tell('worker'); sys.exit(1)")
    # By then it waits for longer than this test would.
    await eventually(lambda: len(guarded.told("worker")) >= 6, timeout=30)
    await eventually(lambda: not guarded.tree())
    guarded.process.send_signal(signal.SIGTERM)
    assert await guarded.ended() in {0, 1}


async def test_a_worker_lives_in_the_group_of_its_guardian_which_is_gone_at_the_end(
    start: Callable[..., Guarded],
) -> None:
    guarded = start("daemon(); tell('worker'); beat_for_ever()", level="cgroup")
    worker = await guarded.first("worker")
    group = _group_of(worker)
    assert group.startswith(f"interlock-{guarded.process.pid}-")
    assert _group_of(guarded.told("daemon")[0]) == group
    assert _group_of(guarded.process.pid) == ""
    os.kill(worker, signal.SIGKILL)
    assert _group_of(await guarded.second("worker")) == group
    guarded.process.send_signal(signal.SIGTERM)
    await guarded.ended()
    assert not (own_group() / group).exists()


async def test_the_group_is_killed_as_a_whole_and_not_only_what_descends_from_the_worker(
    start: Callable[..., Guarded],
) -> None:
    guarded = start("tell('worker'); beat_for_ever()", level="cgroup")
    worker = await guarded.first("worker")
    # No look at /proc leads from the worker to this one, as to what forks faster than one can look.
    stranger = await asyncio.create_subprocess_exec("sleep", "1000")
    (own_group() / _group_of(worker) / "cgroup.procs").write_text(str(stranger.pid))
    os.kill(worker, signal.SIGKILL)
    assert await stranger.wait() == -signal.SIGKILL
    await guarded.second("worker")


async def test_a_worker_that_hangs_is_killed_before_anything_that_it_could_judge(start: Callable[..., Guarded]) -> None:
    # It would tell as soon as it saw its child die, and it is the child that could be killed first.
    worker = (
        "signal.signal(signal.SIGCHLD, lambda *_: tell('judged'))\n"
        "if os.fork() == 0:\n    tell('command'); signal.pause()\n"
        "beat(); tell('worker')\nwhile True: signal.pause()"
    )
    guarded = start(worker, kill_after=0.5, level="guardian")
    await guarded.second("worker")
    assert not _alive(guarded.told("command")[0])
    assert guarded.told("judged") == []


async def test_the_worker_dies_with_its_guardian(start: Callable[..., Guarded]) -> None:
    guarded = start("tell('worker'); beat_for_ever()")
    worker = await guarded.first("worker")
    guarded.process.kill()
    await eventually(lambda: not _alive(worker))


async def test_orphans_are_reaped_while_the_worker_runs(start: Callable[..., Guarded]) -> None:
    orphan = "if os.fork() == 0:\n    if os.fork() == 0: tell('orphan')\n    os._exit(0)\nos.wait()\n"
    guarded = start(f"{orphan}tell('worker'); beat_for_ever()")
    await guarded.first("worker")
    orphan_pid = await guarded.first("orphan")
    await eventually(lambda: lineage.kin(orphan_pid) is None)


RUNS_COMMANDS = """
import asyncio, json
from worker import lineage
from worker.runners.command import run_command
from worker.runners.grace import Grace
from worker.runners.logsink import LogSink
async def run(script):
    lines = []
    sink = LogSink(lambda entry: lines.append(entry.line))
    outcome = await run_command(["sh", "-c", script], env=dict(os.environ), sink=sink, grace=Grace(5))
    return [outcome.status.value, *lines]
lineage.orphans_go_to(os.getppid())
told = {"at first": lineage.has_orphans(), "nothing left": asyncio.run(run("true")), "after it": lineage.has_orphans()}
leave = "setsid sh -c 'echo $$ > PATH; exec sleep 1000' & while [ ! -s PATH ]; do :; done; cat PATH"
told["daemon left"] = asyncio.run(run(leave.replace("PATH", f"{folder}/left")))
daemon()
told["beside a daemon"] = lineage.has_orphans()
with open(f"{folder}/told.new", "w") as file: json.dump(told, file)
os.rename(f"{folder}/told.new", f"{folder}/told")
beat_for_ever()
"""


async def test_whoever_is_adopted_by_the_guardian_shows_that_a_command_left_something(
    start: Callable[..., Guarded], tmp_path: Path
) -> None:
    guarded = start(RUNS_COMMANDS)
    await eventually((tmp_path / "told").exists, timeout=20)
    told = json.loads((tmp_path / "told").read_text())
    assert told["nothing left"] == ["completed"]
    assert (told["at first"], told["after it"], told["beside a daemon"]) == (False, False, True)
    ended, left = told["daemon left"]
    assert ended == "completed"
    assert not _alive(int(left))
    assert guarded.process.poll() is None


def test_the_guardian_imports_the_standard_library_only() -> None:
    code = (
        "import sys; import worker.__main__\n"
        "own = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(name for name in own if not name.startswith('__')))"
    )
    done = subprocess.run([sys.executable, "-Sc", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['interlock', 'worker']"


def test_a_beat_says_when_the_renewal_was_sent_and_never_blocks() -> None:
    reader, writer = os.pipe()
    heart = Heartbeat(writer, 15)
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert heart.beat(time.monotonic() - 5)
    sent, kill_after = BEAT.unpack(os.read(reader, 100))
    assert kill_after == 15
    assert before - 5.001 <= sent <= time.clock_gettime(time.CLOCK_BOOTTIME) - 5
    while heart.beat(time.monotonic()):
        pass
    os.close(reader)
    assert not heart.beat(time.monotonic())
    os.close(writer)
