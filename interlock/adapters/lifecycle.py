"""The life of a daemon's process: its loop, its signals, and the exit code that its end deserves.

The first SIGTERM or SIGINT asks for a drain, the second ends the process at once. Must not know what the daemon does.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
from typing import TYPE_CHECKING, Final

import structlog
import uvloop

from interlock.adapters import logs
from interlock.contract.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from types import FrameType

EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 69
EXIT_MISCONFIGURED: Final = 78
CANCEL_AGAIN_SECONDS: Final = 1.0
COLLECT_AFTER: Final = 50_000
"""Objects by which a process may grow before cycles are looked for: more than one flush of 500 makes and drops."""

log = logs.get_logger(__name__)


class Stop:
    """The wish that this process drain and end. It can be asked for, awaited and seen, never taken back."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Whether the drain was asked for."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return as soon as the drain is asked for."""
        await self._event.wait()

    def request(self) -> None:
        """Ask for the drain; asking again changes nothing."""
        self._event.set()


def run_daemon(main: Callable[[Stop], Awaitable[int]], *, on_reload: Callable[[], None] | None = None) -> int:
    """Run `main` on uvloop until it returns its exit code, and return the code for the process (see `exit_code_of`).

    `on_reload` is called in the loop on SIGHUP; without it SIGHUP is ignored. To be called in the main thread, once.
    """

    async def life() -> int:
        stop = Stop()
        _obey_signals(asyncio.get_running_loop(), stop, on_reload)
        return await main(stop)

    def run() -> int:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(life())

    _collect_seldom()
    faulthandler.enable()  # systemd's watchdog ends a hung process by SIGABRT: leave the stack behind
    return exit_code_of(run)


def _collect_seldom() -> None:
    # What a flush makes it drops again, without cycles: looking for them amid every flush was a seventh of our time.
    # What was imported stays for ever and is not looked at again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


async def end_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel these tasks and wait until all have ended.

    Again and again: `asyncio.wait_for` of Python 3.11, which libraries use, forgets a cancellation that meets a result
    (https://github.com/python/cpython/issues/86296), and a task that goes on for ever would hold up the drain.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_SECONDS)


def exit_code_of(run: Callable[[], int]) -> int:
    """Call `run` and turn what it raises into log lines and an exit code: 69 unreachable, 78 configuration, 1 a bug.

    Also for what comes before `run_daemon`: loading the settings.
    """
    try:
        return run()
    except Exception as raised:  # noqa: BLE001 - here the process ends: the last chance to say why
        if not structlog.is_configured():
            logs.configure(None, "info")
        return _explain(raised)
    finally:
        logs.flush()


def _explain(raised: Exception) -> int:
    found = meaningful(raised)
    if isinstance(found, Misconfigured):
        for line in str(found).splitlines():
            log.error(line)
        return EXIT_MISCONFIGURED
    if isinstance(found, Unavailable):
        log.error(" ".join(str(found).split()))
        return EXIT_UNAVAILABLE
    log.critical("a bug ended this process", exc_info=raised)
    return EXIT_FAILED


def meaningful(raised: Exception) -> Exception:
    """Return what a task group's error is really about: a bug first, then configuration, then reachability."""
    leaves = list(_leaves(raised))
    bugs = [leaf for leaf in leaves if not isinstance(leaf, (Misconfigured, Unavailable))]
    settings = [leaf for leaf in leaves if isinstance(leaf, Misconfigured)]
    return next(iter(bugs or settings or leaves), raised)


def _leaves(raised: BaseException) -> Iterator[Exception]:
    if isinstance(raised, BaseExceptionGroup):
        for inner in raised.exceptions:
            yield from _leaves(inner)
    elif isinstance(raised, Exception):
        yield raised


def _obey_signals(loop: asyncio.AbstractEventLoop, stop: Stop, on_reload: Callable[[], None] | None) -> None:
    # Plain handlers, not the loop's own: the second signal must end a process whose loop hangs in Python code.
    asked = False

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            # Not through the log: the signal may have struck while a line is being written and its lock is held.
            os.write(2, b"a second signal: this process ends now\n")
            os._exit(128 + number)
        asked = True
        loop.call_soon_threadsafe(stop.request)

    def reload(_number: int, _frame: FrameType | None) -> None:
        if on_reload is not None:
            loop.call_soon_threadsafe(on_reload)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGHUP, reload)
