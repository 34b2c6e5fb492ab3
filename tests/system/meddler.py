"""Stands between the workers' completions and the executors' queue: of each twenty it drops one and repeats two.

It also says one more that is untrue, with a worker's rights. Counts what it did; changes no event that it passes on.
"""

from __future__ import annotations

import json
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

import aio_pika

from interlock.contract import events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from aio_pika.abc import AbstractExchange, AbstractIncomingMessage

    from tests.system.deployment import Deployment

FORGER: Final = "/forger"
OF: Final = 20


class Meddler:
    """Begins with `start`, once every executor runs. `heard` are the ids of executions whose workers said their end."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._topology = deployment.topology
        self._victims: Iterator[UUID] | None = None
        self._executors: AbstractExchange | None = None
        self.heard: set[str] = set()
        self.said = self.dropped = self.repeated = self.forged = 0

    @property
    def passed(self) -> int:
        """How many events went to the executors."""
        return self.said - self.dropped + self.repeated + self.forged

    async def start(self) -> None:
        """Take the place of the executors' queue."""
        owner = await self._deployment.channel("amqp_url")
        self._executors = owner.default_exchange
        between = await owner.declare_queue(exclusive=True)
        executors = await owner.get_queue(self._topology.completed_queue.name, ensure=False)
        await between.bind(self._topology.completions.name, "execution.completed.#")
        await executors.unbind(self._topology.completions.name, "execution.completed.#")
        await between.consume(self._receive, no_ack=True)

    def forge(self, victims: Sequence[UUID]) -> None:
        """Say from now on that these, in turn, are completed; nobody, if there are none."""
        self._victims = cycle(victims) if victims else None

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        document = json.loads(message.body)
        passed: list[Mapping[str, Any]] = []
        repeated: list[Mapping[str, Any]] = []
        lies: list[Mapping[str, Any]] = []
        for event in document if isinstance(document, list) else [document]:
            if event["source"] == FORGER:
                self.forged += 1
                passed.append(event)
                continue
            self.heard.add(event["subject"])
            place = self.said % OF
            self.said += 1
            if place == 0:
                self.dropped += 1
                continue
            passed.append(event)
            if place in {7, 14}:
                self.repeated += 1
                repeated.append(event)
            elif place == 1 and self._victims is not None:
                lies.append(_untrue(event, next(self._victims)))
        for said in (passed, repeated):
            if said:
                await self._say(said)
        if lies:
            # The whole way, with the rights of a worker: it comes back to us and is passed on as it is.
            await self._deployment.publish(
                json.dumps(lies).encode(), events.BATCH, exchange="completions", key="execution.completed.completed"
            )

    async def _say(self, said: Sequence[Mapping[str, Any]]) -> None:
        assert self._executors is not None
        message = aio_pika.Message(json.dumps(said).encode(), content_type=events.BATCH)
        await self._executors.publish(message, self._topology.completed_queue.name)


def _untrue(event: Mapping[str, Any], victim: UUID) -> dict[str, Any]:
    """Return `event` as if it were about the first attempt of the victim."""
    name = str(victim)
    told = {"id": f"{name}/1/completed", "source": FORGER, "subject": name}
    return {**event, **told, "data": {**event["data"], "id": name, "attempt": 1}}
