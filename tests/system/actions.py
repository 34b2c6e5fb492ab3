"""Functions that the workers of these tests run. What must wait, waits at the test's gate: no clock decides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlock.results import Context


async def nothing(**_params: object) -> None:
    """End at once, whatever is given."""


async def add(a: int, b: int, context: Context) -> dict[str, int]:
    """Add on the worker's event loop."""
    context.log(f"adding {a} and {b}")
    return {"sum": a + b}


def multiply(a: int, b: int, context: Context) -> dict[str, int]:
    """Multiply in a thread."""
    context.log(f"multiplying {a} and {b}")
    return {"product": a * b}


async def wait_at_gate(gate: str, context: Context) -> object:
    """Say at the gate who is here; end as its answer says: with a JSON value, or failed."""
    reader, writer = await asyncio.open_unix_connection(gate)
    try:
        writer.write(_greeting(context))
        answer = json.loads(await reader.readline() or b"null")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return _obey(answer)


def wait_in_thread(gate: str, context: Context) -> object:
    """Do the same in a thread."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(gate)
        connection.sendall(_greeting(context))
        with connection.makefile("rb") as answers:
            return _obey(json.loads(answers.readline() or b"null"))


async def kill_worker() -> None:
    """End this worker without a word, as a crash would."""
    os.kill(os.getpid(), signal.SIGKILL)


def _greeting(context: Context) -> bytes:
    told = {"id": context.execution_id, "attempt": context.attempt, "pid": os.getpid()}
    return json.dumps(told).encode() + b"\n"


def _obey(answer: object) -> object:
    if isinstance(answer, dict) and "fail" in answer:
        raise RuntimeError(answer["fail"])
    return answer
