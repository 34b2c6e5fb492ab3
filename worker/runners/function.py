"""Runs Python functions: finds them by name on an allowlist, calls them, and judges what came back.

A function runs inside the worker: async ones on its event loop, others in the threads it is given. It never returns
before the function has ended, because an execution that still runs must not be called ended.
"""

from __future__ import annotations

import asyncio
import difflib
import importlib
import inspect
import traceback
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from interlock.contract.errors import Refused
from interlock.results import RetryAfter
from worker.outcome import Outcome, Unstorable, failed, settle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence
    from concurrent.futures import Executor, Future
    from types import TracebackType

    from worker.runners.logsink import LogSink

Take: TypeAlias = "Callable[[object], None]"
"""Takes an item of a generator. Raises Unstorable, which ends it."""
GROUP: Final = "interlock.functions"
"""Entry points of this group publish `package.module:name`, or all of `package.module`."""
FRAMES: Final = 50
SLICE: Final = 250
"""Items of a generator that are taken before the loop may turn to something else."""
_PLAIN: Final = frozenset({"builtins", RetryAfter.__module__})


class FunctionRefused(Refused):
    """A function name that cannot be run here. `code` is function_invalid, _not_allowed, _not_found or _broken."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Target:
    """A function with all that is to be known about it before a call."""

    name: str
    call: Callable[..., object]
    is_async: bool
    wants_context: bool


class Context:
    """What a function gets as `context`: see `interlock.results.Context`."""

    __slots__ = ("_cancelled", "_sink", "attempt", "execution_id")

    def __init__(self, *, execution_id: str, attempt: int, sink: LogSink) -> None:
        self.execution_id = execution_id
        self.attempt = attempt
        self._sink = sink
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether this execution was asked to stop."""
        return self._cancelled

    def cancel(self) -> None:
        """Let the function see that it was asked to stop."""
        self._cancelled = True

    def log(self, line: str) -> None:
        """Add a line to the execution's log, from any thread."""
        self._sink.write("log", str(line))


class Functions:
    """Finds functions by `package.module:name`, each once. An allowed name covers the module and, below it, a package.

    Names are checked before anything is imported. Importing runs the user's module, on the thread that asks.
    """

    def __init__(self, allowed_modules: Sequence[str]) -> None:
        self._allowed = tuple(allowed_modules)
        self._published: frozenset[str] | None = None
        self._targets: dict[str, Target] = {}

    def resolve(self, name: str) -> Target:
        """Return the function of that name. Raises FunctionRefused, whose text says what to do."""
        target = self._targets.get(name)
        if target is None:
            target = self._targets[name] = self._find(name)
        return target

    def _find(self, name: str) -> Target:
        module_name, _, attribute = name.partition(":")
        if not attribute.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
            raise FunctionRefused("function_invalid", f"{name!r} is not of the form package.module:name")
        published = self._is_published(name, module_name)
        if not published and not self._is_allowed(module_name):
            raise FunctionRefused("function_not_allowed", self._not_allowed(name, module_name))
        found = _attribute(_module(name, module_name), attribute)
        # A module allowed for its own functions does not open all that it happened to import.
        home = getattr(found, "__module__", None) or module_name
        if not published and home.partition(".")[0] != module_name.partition(".")[0] and not self._is_allowed(home):
            text = f"{name!r} comes from {home}, which is not allowed: add {home} to INTERLOCK_FUNCTIONS, or wrap it"
            raise FunctionRefused("function_not_allowed", text)
        return _target(name, found)

    def _is_allowed(self, module: str) -> bool:
        return any(module == entry or module.startswith(f"{entry}.") for entry in self._allowed)

    def _is_published(self, name: str, module: str) -> bool:
        if self._published is None:
            self._published = frozenset(point.value for point in metadata.entry_points(group=GROUP))
        return name in self._published or module in self._published

    def _not_allowed(self, name: str, module: str) -> str:
        known = [*self._allowed, *(self._published or ())]
        near = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(module, known, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        allowed = ", ".join(self._allowed) or "nothing"
        return (
            f"{name!r}: this worker may not import {module} (INTERLOCK_FUNCTIONS allows {allowed}).{meant} "
            f"Add the module there, or publish the function as an entry point of the group {GROUP}"
        )


async def run_function(
    target: Target, params: dict[str, object], context: Context, *, executor: Executor, take: Take | None = None
) -> Outcome:
    """Call the function with `params` as keyword arguments and judge what it returns or raises.

    An exception is `failed` under its class. Cancelled: an async function gets CancelledError at its next await; one
    in a thread sees `context.cancelled`, and nothing else can stop it. CancelledError is raised once it has ended.
    With `take` it may be a generator: each item goes there, and the result is a list of what is left, which is empty.
    """
    arguments = {**params, "context": context} if target.wants_context else params
    # A pool that takes no more is the worker's failure, not the action's, so it is asked before the judging begins.
    future = None if target.is_async else executor.submit(_call, target.call, arguments, context, take)
    try:
        value = await (target.call(**arguments) if future is None else _in_thread(future, context))  # type: ignore[misc]
        if take is not None and inspect.isasyncgen(value):
            value = await _take_all_async(value, take)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return _failure(error)
    except Unstorable as refusal:
        return failed(refusal.error_class, str(refusal))
    except BaseException as error:  # noqa: BLE001 - a delivery ends here: SystemExit in an action ends the action only
        return _failure(error)
    return settle(value)


async def _in_thread(future: Future[object], context: Context) -> object:
    """Wait for the thread, even when cancelled: what cannot be stopped has not ended."""
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        context.cancel()
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
        while not ended.is_set():
            with suppress(asyncio.CancelledError):  # asked again: there is still nothing to do but to wait
                await ended.wait()
        raise


def _call(call: Callable[..., object], arguments: dict[str, object], context: Context, take: Take | None) -> object:
    """Run in the thread. A future cannot carry StopIteration; a coroutine turns it into RuntimeError likewise.

    A generator is run to its end here, since what it holds open may belong to its thread.
    """
    try:
        value = call(**arguments)
        return _take_all(value, context, take) if take is not None and inspect.isgenerator(value) else value
    except StopIteration as error:
        raise RuntimeError("the function raised StopIteration") from error


def _take_all(items: Generator[object, Any, object], context: Context, take: Take) -> list[object]:
    with closing(items):
        for item in items:
            take(item)
            if context.cancelled:
                break
    return []


async def _take_all_async(items: AsyncGenerator[object, Any], take: Take) -> list[object]:
    async with aclosing(items):
        number = 0
        async for item in items:
            take(item)
            number += 1
            if number % SLICE == 0:  # It may never wait for anything.
                await asyncio.sleep(0)
    return []


def _failure(error: BaseException) -> Outcome:
    """Keep the class, the message and the frames of the user's own code."""
    report = traceback.TracebackException(type(error), error, _user_frames(error.__traceback__), limit=-FRAMES)
    head = "".join(report.format_exception_only()).strip()
    error_class, *kinds = map(_class_name, type(error).__mro__[:-1])  # all but object
    frame = report.stack[-1] if report.stack else None
    return failed(
        error_class,
        head.removeprefix(f"{type(error).__module__}.").removeprefix(f"{type(error).__qualname__}: "),
        traceback="".join(report.format()),
        location=f"{frame.filename}:{frame.name}" if frame else "",
        kinds=kinds,
        retry_after=error.seconds if isinstance(error, RetryAfter) else None,
    )


def _class_name(kind: type) -> str:
    """Name a class as its user does: Python's own and ours without a module."""
    return kind.__qualname__ if kind.__module__ in _PLAIN else f"{kind.__module__}.{kind.__qualname__}"


def _user_frames(trace: TracebackType | None) -> TracebackType | None:
    """Skip the frames through which the call went: this file's and those of the thread pool."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") in _MACHINERY:
        trace = trace.tb_next
    return trace


_MACHINERY: Final = frozenset({__name__, "asyncio.futures", "concurrent.futures.thread", "concurrent.futures._base"})


def _module(name: str, module_name: str) -> object:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            text = f"{name!r}: no module named {error.name}: is its package installed where the worker runs?"
            raise FunctionRefused("function_not_found", text) from error
        raise FunctionRefused("function_broken", f"{name!r}: importing {module_name} failed: {error}") from error
    except (Exception, SystemExit) as error:
        # A delivery ends here: the module's own code runs at import and may raise anything.
        text = f"{name!r}: importing {module_name} failed: {type(error).__name__}: {error}"
        raise FunctionRefused("function_broken", text) from error


def _attribute(module: object, attribute: str) -> Callable[..., object]:
    name = f"{getattr(module, '__name__', module)}:{attribute}"
    found = getattr(module, attribute, None)
    if callable(found):
        return cast("Callable[..., object]", found)
    if found is not None:
        raise FunctionRefused("function_not_found", f"{name!r} is a {type(found).__name__}, not a function")
    public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    near = difflib.get_close_matches(attribute, public, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise FunctionRefused("function_not_found", f"{name!r} does not exist.{meant}")


def _target(name: str, found: Callable[..., object]) -> Target:
    """Look once at what each call would have to know."""
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment] # built-ins without a signature take no context
    is_async = inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__)
    return Target(name, found, is_async, "context" in parameters)
