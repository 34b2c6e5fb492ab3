"""What happens at an armed fault point: this process crashes, stops, waits or fails. Nothing is armed unless told so.

For tests of what a crash at each named step leaves behind. Knows nothing of the steps themselves.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Final

from interlock.adapters.logs import get_logger
from interlock.contract.errors import Transient
from interlock.contract.faults import Action

if TYPE_CHECKING:
    from collections.abc import Iterable

    from interlock.contract.faults import Fault

# Of the whole process, as a crash is: handing it to everything that can crash would be in the way of reading the code.
_ARMED: Final[dict[str, list[Fault]]] = {}
_PASSED: Final[Counter[str]] = Counter()


def arm(faults: Iterable[Fault]) -> None:
    """Arm these points and no others, their passes counted from now on. Warns when there are any."""
    _ARMED.clear()
    _PASSED.clear()
    for fault in faults:
        _ARMED.setdefault(fault.point, []).append(fault)
    if _ARMED:
        told = [str(fault) for found in _ARMED.values() for fault in found]
        get_logger("faults").warning("armed to fail, for testing only", faults=told)


async def reached(step: str, flow: str = "") -> None:
    """Say that the point `step` was reached, in `flow` where several have it. Raises Transient where that is armed."""
    if _ARMED:
        await _meet(f"{flow}.{step}" if flow else step)


async def _meet(name: str) -> None:
    found = _ARMED.get(name)
    if found is None:
        return
    _PASSED[name] += 1
    number = _PASSED[name]
    for fault in found:
        if fault.strikes(number):
            get_logger("faults").warning("fault", point=name, action=str(fault.action), number=number)
            await _strike(fault)


async def _strike(fault: Fault) -> None:
    if fault.action is Action.CRASH:
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault.action is Action.STOP:
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault.action is Action.DELAY:
        await asyncio.sleep(fault.seconds)
    else:
        raise Transient(f"the fault that is armed at {fault.point}")
