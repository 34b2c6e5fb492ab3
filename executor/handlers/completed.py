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


_NUMBER = attrgetter("int")
"""The order of ids, without a call per comparison."""


class CompletionListener:
    """Releases and admits; decides by the row alone."""

    def __init__(self, *, actor: str, metrics: Metrics) -> None:
        self._actor = actor
        self._metrics = metrics
        self._log = get_logger("completion_listener")

    async def __call__(self, tx: Tx, batch: Sequence[events.Completed]) -> Outgoing:
        """Release one flush of ended executions, and count what each message was worth beside its row."""
        told = sorted({event.data.id for event in batch}, key=_NUMBER)
        rows, admission = await store.complete(tx, self._actor, told)
        ended: set[UUID] = set()
        counts: Counter[News] = Counter()
        for event in batch:
            identity = event.data.id
            news = News.DUPLICATE if identity in ended else _judge(rows.get(identity), event)
            counts[news] += 1
            if news is News.PROCESSED:
                ended.add(identity)
            else:
                self._log.debug(str(news), execution_id=str(identity), told=event.data.status, source=event.source)
        for news, count in counts.items():
            self._metrics.messages.labels("execution.completed", str(news)).inc(count)
        return Outgoing(messages=admission.messages, more=admission.more)


def _judge(row: store.Standing | None, event: events.Completed) -> News:
    told = End(event.data.status, event.data.attempt, event.data.epoch)
    if row is None:
        return judge(None, told, holds=False, limited=False)
    return judge(End(row.status, row.attempt, row.epoch), told, holds=row.holds, limited=row.limited)
