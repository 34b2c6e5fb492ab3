"""What changes while one looks at it: a view that is drawn again, and a line about what goes on."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")
PERIOD: Final = 1.0
Watch = Annotated[bool, typer.Option("--watch", help="Stay, and show every change; look once a second.")]


async def watched(
    look: Callable[[], Awaitable[T]],
    show: Callable[[T], None],
    *,
    redraw: bool,
    ends: Callable[[T], bool] = lambda _: False,
) -> None:
    """Look once a second and show what changed, until it `ends` or somebody interrupts.

    With `redraw`, and on a terminal, each look is drawn over the one before, as times in it go on.
    """
    drawn = redraw and sys.stdout.isatty()
    before: T | None = None
    while True:
        found = await look()
        if drawn:
            Console().clear()
        if drawn or found != before:
            show(found)
        if ends(found):
            return
        before = found
        await asyncio.sleep(PERIOD)


@contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """Give a function that shows one line about what goes on, on a terminal; elsewhere it shows nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with Console(stderr=True).status("") as status:
        yield status.update
