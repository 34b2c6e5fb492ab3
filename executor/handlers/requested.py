"""`execution.requested`: acceptance. Accepted means the row is committed; the message is acknowledged after that.

Law 1. The row is the truth; a message is a hint. This message is the one carrier: it is never dropped unanswered.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.handlers.outgoing import Outgoing
from executor.store import Parked
from interlock.acceptance.store import accept
from interlock.adapters.logs import get_logger
from interlock.contract import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.acceptance.catalog import Catalog
    from interlock.acceptance.store import Answer
    from interlock.adapters.postgres import Tx
    from interlock.adapters.telemetry import Metrics


class Requested:
    """Accepts requests; repeats are answered by the row that stands, conflicts and unusable ids are parked."""

    def __init__(self, *, actor: str, queue: str, catalog: Catalog, metrics: Metrics) -> None:
        self._actor = actor
        self._queue = queue
        self._catalog = catalog
        self._metrics = metrics
        self._log = get_logger("acceptance")

    async def __call__(self, tx: Tx, batch: Sequence[events.Requested]) -> Outgoing:
        """Accept one flush."""
        requests = [event.data for event in batch]
        now = datetime.now(UTC)
        acceptance = await accept(tx, requests, catalog=self._catalog, actor=self._actor, now=now)
        for outcome, count in Counter(map(_outcome, acceptance.answers)).items():
            self._metrics.messages.labels("execution.requested", outcome).inc(count)
        refused = sum(answer.refused is not None for answer in acceptance.answers)
        self._log.info("accepted", requests=len(requests), refused=refused)
        return Outgoing(
            messages=acceptance.messages,
            more=acceptance.more,
            parked=[
                self._park(event, answer)
                for event, answer in zip(batch, acceptance.answers, strict=True)
                if answer.error is not None or _lost(answer)
            ],
        )

    def _park(self, event: events.Requested, answer: Answer) -> Parked:
        reason = answer.error.reason if answer.error else "key_in_use"
        detail = str(answer.error) if answer.error else f"the idempotency key belongs to execution {answer.existing}"
        body, content_type = events.encode([event])
        return Parked(queue=self._queue, reason=reason, detail=detail, content_type=content_type, body=body)


def _lost(answer: Answer) -> bool:
    """The same content under another id: whoever waits for this id must find out where the execution is."""
    return answer.existing is not None and answer.existing != answer.id


def _outcome(answer: Answer) -> str:
    if answer.accepted:
        return "processed"
    return "poison" if answer.error is not None or _lost(answer) else "duplicate"
