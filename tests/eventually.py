"""The one place where tests wait for the world: a poll with a deadline, instead of a sleep and a hope."""

from __future__ import annotations

import asyncio
import inspect
from time import monotonic
from typing import TYPE_CHECKING, TypeVar, cast, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
POLL = 0.02


@overload
async def eventually(fn: Callable[[], Awaitable[T]], timeout: float = ...) -> T: ...
@overload
async def eventually(fn: Callable[[], T], timeout: float = ...) -> T: ...


async def eventually(fn: Callable[[], T | Awaitable[T]], timeout: float = 10) -> T:
    """Call `fn`, sync or async, until it returns something true without an AssertionError; return that.

    After `timeout` seconds the last AssertionError is raised, or one with the last value that was not true.
    """
    deadline = monotonic() + timeout
    while True:
        try:
            value = fn()
            result = cast("T", await value if inspect.isawaitable(value) else value)
            if result:
                return result
            failure = AssertionError(f"still {result!r} after {timeout:g} s: {fn}")
        except AssertionError as error:
            failure = error
        if monotonic() > deadline:
            raise failure
        await asyncio.sleep(POLL)
