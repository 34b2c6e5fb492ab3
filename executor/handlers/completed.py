"""The CompletionListener: reacts to `execution.completed` by releasing slots and admitting the next.

Law 5. Handling twice equals handling once: it does not count down on faith. Under the locks of the keys it deletes the
slot rows of executions whose row says that they ended; of a duplicate, an early or a forged message there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor import store
from executor.handlers.outgoing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.adapters.postgres import Tx
    from interlock.adapters.telemetry import Metrics
    from interlock.contract import events


class CompletionListener:
    """Releases and admits; decides by the row alone."""

    def __init__(self, *, actor: str, metrics: Metrics) -> None:
        self._actor = actor
        self._metrics = metrics

    async def __call__(self, tx: Tx, batch: Sequence[events.Completed]) -> Outgoing:
        """Release one flush of ended executions."""
        outgoing = Outgoing()
        outgoing.add(await store.admit(tx, self._actor, ended=sorted({event.data.id for event in batch})))
        self._metrics.messages.labels("execution.completed", "processed").inc(len(batch))
        return outgoing
