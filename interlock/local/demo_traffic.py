"""The demo's ear and its trouble-maker: counts every event and sends a tenth of them a second time.

Every other repeat is sent at once and the rest a good second later, when its row has usually moved on. Only what is new
is counted towards the tenth: repeats come back to this ear as well.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from interlock.adapters.tap import Heard, Repeater

COMPLETED: Final = "execution.completed"
EVERY: Final = 10
LATE_SECONDS: Final = 1.2
PERIOD: Final = 0.1


class Traffic:
    """What was heard so far. `hear` takes each event as it comes; `run` sends the repeats until cancelled."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._new: Counter[str] = Counter()
        self._completions: defaultdict[str, set[str]] = defaultdict(set)
        self._due: deque[tuple[float, Heard]] = deque()
        self._late: deque[tuple[float, Heard]] = deque()
        self.heard = 0
        self.injected = 0

    def hear(self, heard: Heard) -> None:
        """Count one event; every tenth new one of its type is to be sent again."""
        self.heard += 1
        if heard.type == COMPLETED:
            self._completions[heard.subject].add(heard.id)
        if heard.id in self._known:
            return
        self._known.add(heard.id)
        self._new[heard.type] += 1
        turn, rest = divmod(self._new[heard.type], EVERY)
        if rest == 0 and turn % 2:
            self._due.append((monotonic(), heard))
        elif rest == 0:
            self._late.append((monotonic() + LATE_SECONDS, heard))

    @property
    def completed_events(self) -> int:
        """How many different `execution.completed` were heard."""
        return sum(len(ids) for ids in self._completions.values())

    @property
    def told_twice(self) -> list[str]:
        """Executions that were announced under more than one event id."""
        return sorted(subject for subject, ids in self._completions.items() if len(ids) > 1)

    @property
    def quiet(self) -> bool:
        """Whether no repeat is left to be sent."""
        return not self._due and not self._late

    async def run(self, repeater: Repeater) -> None:
        """Send what is due, until cancelled."""
        while True:
            for queue in (self._due, self._late):
                while queue and queue[0][0] <= monotonic():
                    await repeater.repeat(queue[0][1])
                    self.injected += 1
                    queue.popleft()
            await asyncio.sleep(PERIOD)
