"""The executor's consumers, with a real broker: what is acknowledged when, what is read ahead, and what is parked."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aio_pika
import orjson
import pytest

from executor.consumers import Consumer
from executor.handlers.outgoing import Outgoing
from executor.handlers.requested import Judged
from interlock.adapters.health import Readiness
from interlock.contract import events
from interlock.contract.errors import Malformed, Transient
from tests.eventually import eventually
from tests.world import ACTOR, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from executor.consumers import Handler, Prepare
    from interlock.adapters.postgres import Tx
    from interlock.adapters.subscription import Subscription
    from tests.wire import Wire
    from tests.world import World


class Hand:
    """A handler that fails in passing so often, handles one request, and stops at the next one for ever."""

    def __init__(self, failures: int) -> None:
        self.stuck = asyncio.Event()
        self.failures = failures
        self.seen: list[str] = []

    async def __call__(self, tx: Tx, batch: Sequence[events.Requested]) -> Outgoing:
        del tx
        if self.failures:
            self.failures -= 1
            raise Transient("not now")
        self.seen += [event.data["id"] for event in batch]
        if len(self.seen) > 1:
            self.stuck.set()
            await asyncio.Event().wait()
        return Outgoing()


class Diary:
    """Prepares and handles requests and writes down the order; whoever handles waits for `go`."""

    def __init__(self, *, failures: int = 0) -> None:
        self.go = asyncio.Semaphore(0)
        self.failures = failures
        self.entries: list[str] = []

    async def prepare(self, tx: Tx, batch: Sequence[events.Requested]) -> list[Judged]:
        del tx
        if self.failures:
            self.failures -= 1
            raise Transient("not now")
        if any(event.data["action"] == "bad" for event in batch):
            raise LookupError("no such thing")
        self.entries += [f"prepared {event.data['action']}" for event in batch]
        return [Judged(event=event, candidate=Malformed("of no account here")) for event in batch]

    async def handle(self, tx: Tx, batch: Sequence[Judged]) -> Outgoing:
        del tx
        self.entries += [f"handles {one.event.data['action']}" for one in batch]
        await self.go.acquire()
        self.entries += [f"handled {one.event.data['action']}" for one in batch]
        return Outgoing()

    async def has(self, entry: str) -> None:
        async def written() -> bool:
            return entry in self.entries

        await eventually(written)


async def ask(wire: Wire, *actions: str) -> None:
    """Send one message that asks for these."""
    exchange = await wire.channel.get_exchange(wire.topology.requests.name, ensure=False)
    body, content_type = events.encode(events.requested("/test", [request(action) for action in actions]))
    await exchange.publish(aio_pika.Message(body, content_type=content_type), "execution.requested")


@asynccontextmanager
async def consuming(
    wire: Wire,
    handlers: dict[type[Any], Handler],
    prepare: dict[type[events.Event], Prepare] | None = None,
    *,
    prefetch: int = 100,
) -> AsyncIterator[Subscription]:
    subscription = wire.session.subscribe(wire.topology.requests_queue, prefetch=prefetch)
    await wire.session.start()
    consumer = Consumer(
        subscription,
        handlers,
        prepare=prepare,
        pool=wire.pool,
        relay=wire.relay(),
        actor=ACTOR,
        metrics=wire.metrics,
        readiness=Readiness(),
    )
    async with asyncio.TaskGroup() as group:
        lives = [group.create_task(life) for life in consumer.lives()]
        yield subscription
        for life in lives:
            life.cancel()
    await wire.session.close()


@pytest.mark.parametrize("failures", [0, 2])
async def test_a_request_is_acknowledged_when_it_is_handled_and_not_before(wire: Wire, failures: int) -> None:
    hand = Hand(failures)
    wanted = [events.encode(events.requested("/test", [request()])) for _ in range(2)]
    async with consuming(wire, {events.Requested: hand}, prefetch=1):
        exchange = await wire.channel.get_exchange(wire.topology.requests.name, ensure=False)
        for body, content_type in wanted:
            await exchange.publish(aio_pika.Message(body, content_type=content_type), "execution.requested")
        await asyncio.wait_for(hand.stuck.wait(), 20)
    # The first is done; what was being handled as the process died comes again.
    back: list[bytes] = []

    async def returned() -> bool:
        back.extend(await wire.waiting(wire.topology.requests_queue.name))
        return bool(back)

    await eventually(returned)
    assert back == [wanted[1][0]]


async def test_one_flush_is_prepared_while_another_is_handled_and_both_are_handled_in_turn(wire: Wire) -> None:
    diary = Diary()
    async with consuming(wire, {Judged: diary.handle}, {events.Requested: diary.prepare}) as subscription:
        await ask(wire, "first")
        await diary.has("handles first")
        await ask(wire, "second")
        await diary.has("prepared second")
        await ask(wire, "third")

        async def left_alone() -> bool:
            return len(subscription._buffer) == 1  # noqa: SLF001 - that nobody takes it is what is to be seen

        await eventually(left_alone)
        assert diary.entries == ["prepared first", "handles first", "prepared second"]
        diary.go.release()
        await diary.has("prepared third")
        assert diary.entries[3:5] == ["handled first", "handles second"]
        assert "handled second" not in diary.entries


async def test_what_is_read_ahead_is_not_acknowledged_with_what_came_before_it(wire: Wire) -> None:
    diary = Diary()
    async with consuming(wire, {Judged: diary.handle}, {events.Requested: diary.prepare}):
        await ask(wire, "first")
        await diary.has("handles first")
        await ask(wire, "second")
        await diary.has("prepared second")
        diary.go.release()
        await diary.has("handles second")
    back: list[bytes] = []

    async def returned() -> bool:
        back.extend(await wire.waiting(wire.topology.requests_queue.name))
        return bool(back)

    await eventually(returned)
    assert [orjson.loads(body)["data"]["action"] for body in back] == ["second"]


async def test_what_cannot_be_prepared_is_parked_alone_and_the_rest_is_handled(world: World, wire: Wire) -> None:
    diary = Diary()
    async with consuming(wire, {Judged: diary.handle}, {events.Requested: diary.prepare}):
        await ask(wire, "one", "two", "bad", "three")
        await diary.has("handles three")
        assert diary.entries == [
            *("prepared one", "prepared two", "prepared three"),
            *("handles one", "handles two", "handles three"),
        ]
    (parked,) = await world.tx.fetch("SELECT reason, detail, body FROM poison_message")
    assert (parked["reason"], parked["detail"]) == ("bug", "no such thing")
    assert orjson.loads(parked["body"])["data"]["action"] == "bad"


async def test_what_cannot_be_prepared_in_passing_is_prepared_again(wire: Wire) -> None:
    diary = Diary(failures=2)
    async with consuming(wire, {Judged: diary.handle}, {events.Requested: diary.prepare}):
        await ask(wire, "one")
        await diary.has("handles one")
    assert diary.entries == ["prepared one", "handles one"]
