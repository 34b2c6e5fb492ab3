"""Fault points: how they are written, when they strike, and that the table and the code name the same steps."""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.adapters.faults import arm, reached
from interlock.contract.errors import Misconfigured, Transient
from interlock.contract.faults import FLOWS, POINTS, Action, Fault, read_fault
from interlock.contract.topology import Topology
from interlock.settings import Client, load

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PRODUCT = sorted(path for top in ("interlock", "executor", "worker") for path in (ROOT / top).rglob("*.py"))
POINT = "finish.committed"
FAULTS = st.builds(
    Fault,
    point=st.sampled_from([point.name for point in POINTS if point.can_fail]),
    action=st.sampled_from([Action.CRASH, Action.STOP, Action.ERROR]),
    first=st.integers(1, 1000),
    step=st.sampled_from([0, 1]),
) | st.builds(
    lambda point, seconds, every: Fault(
        point=point.name, action=Action.DELAY, seconds=seconds / 4, first=every, step=every
    ),
    st.sampled_from(POINTS),
    st.integers(0, 100),
    st.integers(2, 1000),
)


@pytest.fixture(autouse=True)
def _nothing_stays_armed() -> Iterator[None]:
    yield
    arm(())


def calls_of_reached() -> Counter[str]:
    """Count the names of all calls in the product; a second argument stands for each flow."""
    found: Counter[str] = Counter()
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reached":
                step = node.args[0]
                assert isinstance(step, ast.Constant), f"{path}:{node.lineno}: the name must be written out"
                flows = [f"{flow}." for flow in FLOWS] if len(node.args) > 1 else [""]
                found.update(f"{flow}{step.value!s}" for flow in flows)
    return found


def test_each_point_of_the_table_is_reached_at_one_place_and_no_other_is() -> None:
    assert calls_of_reached() == Counter(point.name for point in POINTS)


def test_a_flow_is_the_last_part_of_a_queues_name() -> None:
    topology = Topology("any")
    queues = (topology.requests_queue, topology.status_queue, topology.completed_queue, topology.dead_queue)
    assert tuple(queue.name.rpartition(".")[2] for queue in queues) == FLOWS


@given(FAULTS)
def test_what_a_fault_is_written_as_reads_as_the_same_fault(fault: Fault) -> None:
    assert read_fault(str(fault)) == fault


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("=crash", [1]),
        ("=crash@3", [3]),
        ("=stop@4+", [4, 5, 6, 7, 8, 9]),
        ("=error@every:4", [4, 8]),
        ("=delay:2.5@every:1", [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_a_fault_strikes_at_the_passes_that_it_names(text: str, passes: list[int]) -> None:
    fault = read_fault(POINT + text)
    assert [number for number in range(1, 10) if fault.strikes(number)] == passes


FORM = "write POINT=crash|stop|error|delay:SECONDS, then @N (the Nth pass), @N+ (from the Nth on) or @every:N"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("finish.commited=crash", "no fault point is called 'finish.commited'; did you mean \"finish.committed\"?"),
        ("quantum=crash", "no fault point is called 'quantum'"),
        (POINT, f"'{POINT}' is not a fault: {FORM}"),
        (f"{POINT}=crash@0", f"'{POINT}=crash@0' is not a fault: {FORM}"),
        (f"{POINT}=explode", f"a fault point cannot 'explode': {FORM}"),
        (f"{POINT}=delay", f"'{POINT}=delay': seconds belong to a delay, and to nothing else: {FORM}"),
        (f"{POINT}=stop:2", f"'{POINT}=stop:2': seconds belong to a delay, and to nothing else: {FORM}"),
        (
            "relay.publishing=error",
            "'relay.publishing=error': no connection can be lost at this point, so no error can be armed there",
        ),
    ],
)
def test_what_cannot_be_armed_is_refused_with_what_would_be_right(text: str, told: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole text is compared
        read_fault(text)
    assert str(refused.value) == told


def test_the_setting_is_a_list_and_a_wrong_one_is_told_with_an_example() -> None:
    both = load(Client, environ={"INTERLOCK_FAULTS": f"{POINT}=crash@3, relay.deleted=delay:2.5"})
    assert [str(fault) for fault in both.faults] == [f"{POINT}=crash@3", "relay.deleted=delay:2.5@1"]
    assert load(Client, environ={"INTERLOCK_FAULTS": ""}).faults == ()
    with pytest.raises(Misconfigured) as refused:
        load(Client, environ={"INTERLOCK_FAULTS": "relay.delete=crash"})
    assert str(refused.value) == (
        "INTERLOCK_FAULTS: no fault point is called 'relay.delete'; did you mean \"relay.deleted\"?, "
        "got 'relay.delete=crash' (example: INTERLOCK_FAULTS=finish.committed=crash@3)"
    )


async def test_an_error_is_one_that_passes_and_strikes_at_its_pass_alone() -> None:
    arm([read_fault(f"{POINT}=error@2")])
    await reached(POINT)
    await reached("finish.written")
    with pytest.raises(Transient):
        await reached(POINT)
    await reached(POINT)


async def test_a_point_of_a_flow_is_armed_for_that_flow_alone() -> None:
    arm([read_fault("completed.committed=error@1+")])
    await reached("committed", "requests")
    with pytest.raises(Transient):
        await reached("committed", "completed")


async def test_arming_again_forgets_what_was_armed_and_what_was_passed() -> None:
    arm([read_fault(f"{POINT}=error@2")])
    await reached(POINT)
    arm([read_fault(f"{POINT}=error@2")])
    await reached(POINT)
    arm(())
    await reached(POINT)


async def test_a_delay_holds_up_its_own_step_and_nobody_else() -> None:
    arm([read_fault(f"{POINT}=delay:3600")])
    async with asyncio.TaskGroup() as tasks:
        held = tasks.create_task(reached(POINT))
        await asyncio.wait_for(reached("finish.written"), 5)
        assert not held.done()
        held.cancel()


def armed_process(fault: str) -> subprocess.Popen[bytes]:
    """Start a process that passes one point twice and then says that it is there still."""
    script = (
        "import asyncio\n"
        "from interlock.adapters.faults import arm, reached\n"
        "from interlock.contract.faults import read_fault\n"
        f"arm([read_fault({fault!r})])\n"
        "async def main():\n"
        f"    await reached({POINT!r})\n"
        "    print('once', flush=True)\n"
        f"    await reached({POINT!r})\n"
        "    print('twice', flush=True)\n"
        "asyncio.run(main())\n"
    )
    # What an atexit handler or a finally would still do must not happen: nothing of it is reached.
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)


def test_a_crash_is_a_sigkill_at_once() -> None:
    with armed_process(f"{POINT}=crash@2") as process:
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, [word for word in out.split() if word in (b"once", b"twice")]) == (-9, [b"once"])


def test_a_stop_lasts_until_somebody_continues_the_process() -> None:
    with armed_process(f"{POINT}=stop@2") as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == signal.SIGSTOP
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, [word for word in out.split() if word in (b"once", b"twice")]) == (
        0,
        [b"once", b"twice"],
    )
