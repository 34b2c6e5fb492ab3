"""Faults of the broker: stopped, purged, wiped, its connections closed, its memory full, a queue deleted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aio_pika

from chaos.trial import Scenario
from interlock.contract.topology import ROLES
from interlock.local.rabbitmq import USERS

if TYPE_CHECKING:
    from chaos.trial import Trial
    from interlock.local.rabbitmq import RabbitMQ

DOWN_SECONDS: Final = 3.0
BETWEEN_SECONDS: Final = 5.0
PURGE_SECONDS: Final = 0.5
UNHEARD_SECONDS: Final = 5.0
"""For how long a message may have been on its way to a subscriber when its queue goes."""
CLOSE_ALL: Final = (
    'spawn(fun() -> [begin timer:sleep(1000), rabbit_networking:close_all_connections("chaos") end'
    " || _ <- lists:seq(1, {times})] end), ok."
)

CLOSE_USERS: Final = (
    "spawn(fun() -> [begin timer:sleep({pause}), "
    '[rabbit_networking:close_all_user_connections(User, <<"chaos">>) || User <- [{users}]] end'
    " || _ <- lists:seq(1, {times})] end), ok."
)


def _broker(trial: Trial) -> RabbitMQ:
    if trial.stage.stack is None:
        raise RuntimeError("a user's broker is not ours to break")
    return trial.stage.stack.broker


async def stop_broker(trial: Trial) -> None:
    """Kill the broker, and start it again some seconds later."""
    broker = _broker(trial)
    while trial.goes_on:
        await trial.pause(BETWEEN_SECONDS)
        await broker.stop()
        await asyncio.sleep(DOWN_SECONDS)
        await broker.start()


async def wipe_broker(trial: Trial) -> None:
    """Kill the broker and throw away all that it knew; what it reads at its first start brings the queues back."""
    broker = _broker(trial)
    while trial.goes_on:
        await trial.pause(BETWEEN_SECONDS)
        since = await trial.clock() - UNHEARD_SECONDS
        await broker.stop()
        broker.wipe()
        trial.blackouts.append((since, await trial.clock()))
        await broker.start()
    trial.notes.append(f"the broker was wiped {len(trial.blackouts)} times")


async def purge_queues(trial: Trial) -> None:
    """Purge every queue of the daemons again and again."""
    topology = trial.stage.topology
    queues = [*topology.queues, topology.pool_queue(trial.stage.pool)]
    async with await aio_pika.connect(trial.stage.endpoints.amqp_url) as connection, connection.channel() as channel:
        while trial.goes_on:
            await trial.pause(PURGE_SECONDS)
            for queue in queues:
                await (await channel.get_queue(queue.name, ensure=False)).purge()


async def close_connections(trial: Trial) -> None:
    """Close every connection each second."""
    await _broker(trial).control("eval", CLOSE_ALL.replace("{times}", str(int(trial.seconds))))
    await trial.pause(trial.seconds)


async def cut_connections(trial: Trial, every: float) -> None:
    """Close the connections of daemons and clients every so many seconds, and not those of who meddles for us."""
    users = ", ".join(f'<<"{USERS[role]}">>' for role in ROLES)
    words = {"{pause}": str(int(every * 1000)), "{users}": users, "{times}": str(int(trial.seconds / every))}
    code = CLOSE_USERS
    for name, value in words.items():
        code = code.replace(name, value)
    await _broker(trial).control("eval", code)
    await trial.pause(trial.seconds)


async def memory_alarm(trial: Trial) -> None:
    """Raise the memory alarm, which blocks everybody who publishes."""
    broker = _broker(trial)
    while trial.goes_on:
        await trial.pause(BETWEEN_SECONDS)
        await broker.control("set_vm_memory_high_watermark", "absolute", "1MB")
        await asyncio.sleep(DOWN_SECONDS)
        await broker.control("set_vm_memory_high_watermark", "absolute", "768MB")


async def delete_queues(trial: Trial) -> None:
    """Delete a queue under its live consumers, another one each time."""
    topology = trial.stage.topology
    bindings = (*topology.bindings, topology.pool_binding(trial.stage.pool))
    queues = [*topology.queues, topology.pool_queue(trial.stage.pool)]
    async with await aio_pika.connect(trial.stage.endpoints.amqp_url) as connection:
        for queue in trial.seed.sample(queues, len(queues)):
            if not trial.goes_on:
                break
            async with connection.channel() as channel:
                await channel.queue_delete(queue.name)
                await asyncio.sleep(1)
                # The owner's part: executors may not declare these. Workers have made theirs again by now.
                made = await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
                for binding in bindings:
                    if binding.queue == queue.name:
                        await made.bind(binding.exchange, binding.routing_key)
            await trial.pause(trial.seconds / (len(queues) + 1))


SCENARIOS: Final = (
    Scenario(name="broker-stop", sentence="RabbitMQ is killed and comes back", fault=stop_broker),
    Scenario(name="broker-purge", sentence="every queue is purged twice a second", fault=purge_queues),
    Scenario(name="broker-wipe", sentence="RabbitMQ is killed and comes back empty", fault=wipe_broker),
    Scenario(name="broker-cut", sentence="all connections are closed every second", fault=close_connections),
    Scenario(name="broker-alarm", sentence="the memory alarm blocks all publishers", fault=memory_alarm),
    Scenario(name="queue-deleted", sentence="queues are deleted under live consumers", fault=delete_queues),
)
