"""The inside of a warm process: takes one call after the other, runs its function, and sends back how it ended.

It judges with the code that a worker has for its own functions, so only JSON crosses: outcomes, log lines, a word to
stop. It ends when the worker's end of the line is closed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from worker.runners.frames import Frames, frame, told_of
from worker.runners.function import Context, FunctionRefused, Functions, run_function
from worker.runners.logsink import LogEntry, LogSink

if TYPE_CHECKING:
    from collections.abc import Sequence

_CHUNK: Final = 256 * 1024


class Inside:
    """One warm process's life. `fd` is its end of the line, `allowed` the modules that functions may come from."""

    def __init__(self, fd: int, allowed: Sequence[str]) -> None:
        self._functions = Functions(allowed)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="action")
        self._line = socket.socket(fileno=fd)
        self._line.settimeout(0)
        self._line.set_inheritable(False)
        self._frames = Frames()
        self._calls: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None
        self._stopped = False

    async def serve(self) -> None:
        """Take calls until the line is closed, which ends this process."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send())
            tasks.create_task(self._hear())
            while True:
                call = await self._calls.get()
                self._running = tasks.create_task(self._answer(call))
                if self._stopped:
                    self._running.cancel()
                await asyncio.wait([self._running])

    async def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await loop.sock_recv(self._line, _CHUNK):
                for told in self._frames.feed(data):
                    if told["kind"] == "call":
                        self._calls.put_nowait(told)
                    else:
                        self._stop()
        # Nobody waits for what runs any more; a thread that does not end would keep this process from ending.
        os._exit(0)

    def _stop(self) -> None:
        """Stop what runs, or what is about to: a process that was told to stop gets no other call."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.sock_sendall(self._line, await self._out.get())

    async def _answer(self, call: dict[str, Any]) -> None:
        sink = LogSink(lambda entry: self._out.put_nowait(frame(_line(entry))))
        context = Context(execution_id=call["execution_id"], attempt=call["attempt"], sink=sink)
        try:
            target = self._functions.resolve(call["function"])
            outcome = await run_function(target, call["params"], context, executor=self._threads)
            end = {"kind": "end", "outcome": told_of(outcome)}
        except FunctionRefused as refusal:
            end = {"kind": "refused", "code": refusal.code, "message": str(refusal)}
        except asyncio.CancelledError:
            end = {"kind": "stopped"}
        sys.stdout.flush()
        sys.stderr.flush()
        self._out.put_nowait(frame(end))


def _line(entry: LogEntry) -> dict[str, Any]:
    return {"kind": "log", "line": entry.line}


def main(fd: int, allowed: Sequence[str]) -> None:
    """Be a warm process until the worker closes the line."""

    async def life() -> None:
        await Inside(fd, allowed).serve()

    asyncio.run(life())
