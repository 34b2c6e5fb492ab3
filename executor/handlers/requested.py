"""`execution.requested`: acceptance. Accepted means the row is committed; the message is acknowledged after that.

Law 1. The row is the truth; a message is a hint. This message is the one carrier: it is never dropped unanswered.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.handlers.outgoing import Outgoing
from executor.store import Parked
from interlock.acceptance.store import accept_judged, judge_all
from interlock.adapters.logs import get_logger
from interlock.contract import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.acceptance.candidates import Candidate
    from interlock.acceptance.catalog import Catalog
    from interlock.acceptance.store import Answer
    from interlock.adapters.postgres import Tx
    from interlock.adapters.telemetry import Metrics
    from interlock.contract.errors import Malformed


@dataclass(slots=True, kw_only=True)  # not frozen, as Candidate
class Judged:
    """One request as it came, and what it would become."""

    event: events.Requested
    candidate: Candidate | Malformed


class Requested:
    """Accepts requests; repeats are answered by the row that stands, conflicts and unusable ids are parked."""

    def __init__(self, *, actor: str, queue: str, catalog: Catalog, metrics: Metrics) -> None:
        self._actor = actor
        self._queue = queue
        self._catalog = catalog
        self._metrics = metrics
        self._log = get_logger("acceptance")

    async def judge(self, tx: Tx, batch: Sequence[events.Requested]) -> list[Judged]:
        """Judge one flush before its turn comes: the definitions that were current when it had arrived hold for it."""
        requests = [event.data for event in batch]
        judged = await judge_all(tx, requests, self._catalog, datetime.now(UTC))
        return [Judged(event=event, candidate=candidate) for event, candidate in zip(batch, judged, strict=True)]

    async def __call__(self, tx: Tx, batch: Sequence[Judged]) -> Outgoing:
        """Accept one flush."""
        requests = [one.event.data for one in batch]
        acceptance = await accept_judged(tx, requests, [one.candidate for one in batch], self._actor)
        for outcome, count in Counter(map(_outcome, acceptance.answers)).items():
            self._metrics.messages.labels("execution.requested", outcome).inc(count)
        refused = sum(answer.refused is not None for answer in acceptance.answers)
        self._log.info("accepted", requests=len(requests), refused=refused)
        return Outgoing(
            messages=acceptance.messages,
            more=acceptance.more,
            parked=[
                self._park(one.event, answer)
                for one, answer in zip(batch, acceptance.answers, strict=True)
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
