"""Faults of messages: each of every kind may come twice, late, never, or untrue."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aio_pika

from chaos.ear import FORGER
from chaos.trial import Scenario
from interlock.contract import events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

    from chaos.flavours import Asked
    from chaos.trial import Trial
    from interlock.contract.topology import Binding

FATES: Final = ("dropped", "repeated", "late", "forged")
SHARE: Final = 0.1
"""How much of everything meets each of them."""
LATEST: Final = 2.0
DRAIN_SECONDS: Final = 0.3
CANCEL_SECONDS: Final = 1.0
Document = dict[str, Any]


class Meddler:
    """Stands between an exchange and one queue: of the events that go through it changes a share of each kind.

    What it holds back goes on later; what it forges is said to the queue alone, so that no subscriber hears it.
    """

    def __init__(
        self, trial: Trial, channel: AbstractChannel, binding: Sequence[Binding], fates: Sequence[str] = FATES
    ) -> None:
        self._trial = trial
        self._fates = fates
        self._channel = channel
        self._bindings = binding
        self._late: list[tuple[float, Document]] = []
        self.counts = dict.fromkeys(("passed", *FATES), 0)

    async def run(self) -> None:
        """Meddle until cancelled; then put everything back and pass on what is left."""
        queue_name = self._bindings[0].queue
        between = await self._channel.declare_queue(exclusive=True)
        real = await self._channel.get_queue(queue_name, ensure=False)
        for route in self._bindings:
            await between.bind(route.exchange, route.routing_key)
            await real.unbind(route.exchange, route.routing_key)
        try:
            await between.consume(self._receive, no_ack=True)
            while True:
                await asyncio.sleep(0.1)
                await self._say_late()
        finally:
            for route in self._bindings:
                await real.bind(route.exchange, route.routing_key)
                await between.unbind(route.exchange, route.routing_key)
            await asyncio.sleep(DRAIN_SECONDS)
            await self._say_late(everything=True)

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        document = json.loads(message.body)
        passed: list[Document] = []
        more: list[Document] = []
        for event in document if isinstance(document, list) else [document]:
            fate = self._fate()
            self.counts[fate] += 1
            if fate == "late":
                due = asyncio.get_running_loop().time() + self._trial.seed.uniform(0.05, LATEST)
                self._late.append((due, event))
            elif fate != "dropped":
                passed.append(event)
            if fate == "repeated":
                more.append(event)
            elif fate == "forged":
                more += self._lies(event)
        self._trial.seed.shuffle(passed)
        for said in (passed, more):
            await self._say(said)

    def _fate(self) -> str:
        drawn = int(self._trial.seed.random() / SHARE)
        return self._fates[drawn] if drawn < len(self._fates) else "passed"

    def _lies(self, event: Document) -> list[Document]:
        """Say untrue things about another execution that is accepted, as whoever may speak here could."""
        victims = self._trial.load.accepted
        if event["type"] not in FORGERIES or not victims:
            return []
        victim = self._trial.seed.choice(victims)
        name = str(victim.id)
        lie = {"id": f"{name}/1/{self._trial.seed.randrange(9)}", "source": FORGER, "subject": name}
        return [{**event, **lie, "data": FORGERIES[event["type"]](event["data"], victim)}]

    async def _say_late(self, *, everything: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        due = [event for at, event in self._late if everything or at <= now]
        self._late = [] if everything else [(at, event) for at, event in self._late if at > now]
        await self._say(due)

    async def _say(self, said: Sequence[Document]) -> None:
        for start in range(0, len(said), events.MAX_EVENTS):
            body = json.dumps(said[start : start + events.MAX_EVENTS]).encode()
            message = aio_pika.Message(body, content_type=events.BATCH, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await self._channel.default_exchange.publish(message, self._bindings[0].queue)


FORGERIES: Final[Mapping[str, Callable[[Document, Asked], Document]]] = {
    # An end that has not come; a move that was not made; a dispatch of an attempt that there is not.
    "execution.completed": lambda data, victim: {**data, "id": str(victim.id), "attempt": 1},
    "execution.status_changed": lambda data, victim: {
        **data,
        "id": str(victim.id),
        "attempt": 1,
        "from": "running",
        "to": "completed",
    },
    "execution.scheduled": lambda data, victim: {"id": str(victim.id), "attempt": data["attempt"] + 1},
    # The same id with another content: a conflict, as the true one is accepted.
    "execution.requested": lambda data, victim: {**victim.request, "priority": 7},  # noqa: ARG005 - one form for all
}


@asynccontextmanager
async def _owner(trial: Trial) -> AsyncIterator[AbstractChannel]:
    """A channel of the broker's owner, without confirms: what it passes on may be lost like any message."""
    async with await aio_pika.connect(trial.stage.endpoints.amqp_url) as connection:
        yield await connection.channel(publisher_confirms=False)


async def _forge_cancels(trial: Trial, channel: AbstractChannel) -> None:
    """Tell workers to cancel what they run, though nobody asked for it: another attempt, or the very one."""
    control = await channel.get_exchange(trial.stage.topology.control.name, ensure=False)
    number = 0
    try:
        while True:
            await trial.pause(CANCEL_SECONDS)
            for row in await trial.stage.eyes.fetch("running"):
                number += 1
                attempt = row["attempt"] + number % 2
                lie = {"specversion": "1.0", "id": f"{row['id']}/1/lie", "source": FORGER, "type": "execution.cancel"}
                body = json.dumps({**lie, "subject": row["id"], "data": {"id": row["id"], "attempt": attempt}}).encode()
                # A worker that is gone has no queue any more: nobody is there to be lied to.
                message = aio_pika.Message(body, content_type=events.SINGLE)
                await control.publish(message, row["worker"], mandatory=False)
    finally:
        trial.notes.append(f"{number} cancels were forged")


async def meddle(trial: Trial) -> None:
    """Drop, repeat, hold back and forge a tenth each of everything that goes to the daemons' queues."""
    topology = trial.stage.topology
    routes = (*topology.bindings, topology.pool_binding(trial.stage.pool))
    names = {route.queue for route in routes if route.queue != topology.dead_queue.name}
    async with _owner(trial) as channel, asyncio.TaskGroup() as tasks:
        meddlers = [
            Meddler(trial, channel, [route for route in routes if route.queue == name]) for name in sorted(names)
        ]
        running = [tasks.create_task(meddler.run()) for meddler in meddlers]
        running.append(tasks.create_task(_forge_cancels(trial, channel)))
        await trial.pause(trial.seconds)
        for task in running:
            task.cancel()
    total = {name: sum(meddler.counts[name] for meddler in meddlers) for name in meddlers[0].counts}
    trial.notes.append("events: " + ", ".join(f"{number} {name}" for name, number in total.items()))


async def meddle_with_completions(trial: Trial) -> None:
    """Drop and repeat a tenth each of what tells executors of an end."""
    topology = trial.stage.topology
    routes = [route for route in topology.bindings if route.queue == topology.completed_queue.name]
    async with _owner(trial) as channel, asyncio.TaskGroup() as tasks:
        meddler = Meddler(trial, channel, routes, ("dropped", "repeated"))
        running = tasks.create_task(meddler.run())
        await trial.pause(trial.seconds)
        running.cancel()
    counts = meddler.counts
    trial.notes.append(
        f"completions: {counts['dropped']} dropped, {counts['repeated']} repeated of {sum(counts.values())}"
    )


async def drop_completions(trial: Trial) -> None:
    """Let no `execution.completed` reach an executor."""
    topology = trial.stage.topology
    routes = [route for route in topology.bindings if route.queue == topology.completed_queue.name]
    async with _owner(trial) as channel:
        hole = await channel.declare_queue(exclusive=True)
        real = await channel.get_queue(topology.completed_queue.name, ensure=False)
        for route in routes:
            await hole.bind(route.exchange, route.routing_key)
            await real.unbind(route.exchange, route.routing_key)
        try:
            await trial.pause(trial.seconds)
        finally:
            for route in routes:
                await real.bind(route.exchange, route.routing_key)


SCENARIOS: Final = (
    Scenario(
        name="meddler",
        sentence="a tenth each of all messages is dropped, repeated, held back and forged",
        fault=meddle,
    ),
    Scenario(name="no-completions", sentence="no execution.completed reaches an executor", fault=drop_completions),
)
