"""How long work that was told to stop may take for it, and that this can be cut off while it lasts. Knows no work."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Grace:
    """`seconds` for one piece of work; none once it was cut off, whether it had begun or not."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._cut_off = False
        self._lasting: asyncio.Timeout | None = None

    def allow(self, seconds: float) -> None:
        """Let it be so long, now that it is known whose work this is; what was cut off stays so."""
        self.seconds = 0.0 if self._cut_off else seconds

    def cut_off(self) -> None:
        """End it now, or let it end as it begins. Again: nothing."""
        self.seconds, self._cut_off = 0.0, True
        if self._lasting is not None and not self._lasting.expired():
            self._lasting.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def granted(self) -> AsyncIterator[None]:
        """It lasts while the block does. Raises TimeoutError when it is over first."""
        async with asyncio.timeout(self.seconds) as lasting:
            self._lasting = lasting
            try:
                yield
            finally:
                self._lasting = None
