"""The CompletionListener: reacts to `execution.completed` by releasing slots and admitting the next.

Law 5. Handling twice equals handling once: it does not count down on faith. Under the locks of the keys it deletes the
slot rows of executions whose row says that they ended; of a duplicate, an early or a forged message there are none.
"""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING

from executor import store
from executor.handlers.outgoing import Outgoing
from executor.rules.completion import End, News, judge
from interlock.adapters.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from interlock.adapters.postgres import Tx
    from interlock.adapters.telemetry import Metrics
    from interlock.contract import events


_ORDER = attrgetter("data.id.int")
"""The order of ids, without a call per comparison."""


class CompletionListener:
    """Releases and admits; decides by the row alone."""

    def __init__(self, *, actor: str, metrics: Metrics) -> None:
        self._actor = actor
        self._metrics = metrics
        self._log = get_logger("completion_listener")

    async def __call__(self, tx: Tx, batch: Sequence[events.Completed]) -> Outgoing:
        """Release one flush of ended executions, and count what each message was worth beside its row."""
        batch = sorted(batch, key=_ORDER)
        elsewhere, admission = await store.complete(tx, self._actor, [_told(event) for event in batch])
        ended: set[UUID] = set()
        counts: Counter[News] = Counter()
        for number, event in enumerate(batch, 1):
            identity = event.data.id
            if identity in ended:
                news = News.DUPLICATE
            else:
                news = _judge(elsewhere[number], event) if number in elsewhere else News.PROCESSED
            counts[news] += 1
            if news is News.PROCESSED:
                ended.add(identity)
            else:
                self._log.debug(str(news), execution_id=str(identity), told=event.data.status, source=event.source)
        for news, count in counts.items():
            self._metrics.messages.labels("execution.completed", str(news)).inc(count)
        return Outgoing(messages=admission.messages, more=admission.more)


def _told(event: events.Completed) -> store.Told:
    data = event.data
    return data.id, data.status, data.attempt, data.epoch


def _judge(row: store.Standing | None, event: events.Completed) -> News:
    told = End(event.data.status, event.data.attempt, event.data.epoch)
    if row is None:
        return judge(None, told, holds=False, limited=False)
    return judge(End(row.status, row.attempt, row.epoch), told, holds=row.holds, limited=row.limited)
