"""Two real transactions that meet: the second waits for a lock of the first, then goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.world import World


async def one_waits_for_the_other(
    first: World,
    do_first: Callable[[World], Coroutine[Any, Any, Any]],
    second: World,
    do_second: Callable[[World], Coroutine[Any, Any, Any]],
) -> tuple[Any, Any]:
    """Do `do_first` in an open transaction, start `do_second`, see it wait, commit, and return both results."""
    transaction = first.tx.transaction()
    await transaction.start()
    early = await do_first(first)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(do_second(second))
        await eventually(lambda: first.is_blocking(second))
        await transaction.commit()
    return early, task.result()
