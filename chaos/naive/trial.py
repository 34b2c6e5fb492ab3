"""Runs the toy under a few of the faults, and has the same auditor judge it."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import aio_pika
from uuid_utils.compat import uuid7

from chaos.actions import NOTES, RUNS, SLOTS
from chaos.audit import Material, Move, audit
from chaos.eyes import Eyes
from chaos.figures import Figures, Verdict
from chaos.flavours import Asked
from chaos.naive.flow import EXCHANGE
from interlock.adapters.statements import Statements
from interlock.local.children import Child
from interlock.local.daemons import inherited

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

    from interlock.local.stack import Stack

SQL: Final = Statements("chaos.naive")
KEYS: Final = ("red", "green", "blue")
LIMIT: Final = 3
WORKERS: Final = 3
CHUNK: Final = 10
QUIET: Final = 6.0
"""Seconds without any move after which nothing more will happen."""
KINDS: Final = ("requests", "work", "status", "completed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is done to the toy: every so many seconds a process is killed, or a share of its messages goes wrong."""

    name: str
    kill_every: float = 0.0
    repeat: float = 0.0
    drop: float = 0.0


FAULTS: Final = (
    Fault(name="naive-calm"),
    Fault(name="naive-kill", kill_every=2.5),
    Fault(name="naive-repeat", repeat=0.1),
    Fault(name="naive-drop", drop=0.1),
)


async def compare(stack: Stack, seed: int, executions: int, seconds: float) -> list[Verdict]:
    """Run the toy under each fault. Its verdicts have figures and no bars: it is no promise of ours."""
    return [await _run(stack, fault, random.Random(f"{seed}/{fault.name}"), executions, seconds) for fault in FAULTS]  # noqa: S311


async def _run(stack: Stack, fault: Fault, seed: random.Random, executions: int, seconds: float) -> Verdict:
    began = monotonic()
    async with AsyncExitStack() as undo:
        database_url = await _database(stack.endpoints.database_url)
        evidence = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="interlock-naive-")))
        for folder in (RUNS, SLOTS):
            (evidence / folder).mkdir()
        prefix = f"naive-{secrets.token_hex(4)}"
        settings = {
            "database_url": database_url,
            "amqp_url": stack.endpoints.amqp_url,
            "prefix": prefix,
            "evidence": str(evidence),
            "limit": LIMIT,
            "repeat": fault.repeat,
            "drop": fault.drop,
        }
        connection = await undo.enter_async_context(await aio_pika.connect(stack.endpoints.amqp_url))
        channel = await connection.channel()
        heard = await _declared(channel, prefix)
        eyes = Eyes(database_url)
        undo.push_async_callback(eyes.close)
        children = [_child(role, number, settings, stack.logs) for role, number in _roles()]
        for child in children:
            undo.callback(child.kill)
            child.start()
        asked = [_asked(seed) for _ in range(executions)]
        async with asyncio.TaskGroup() as tasks:
            killing = tasks.create_task(_kill(fault, children, seed))
            await _ask(channel, prefix, asked, seconds)
            killing.cancel()
        since = await _quiet(eyes)
        figures = await _figures(eyes, asked, heard, evidence, since)
        for kind in KINDS:
            await channel.queue_delete(f"{prefix}.{kind}")
    return Verdict(name=fault.name, figures=figures, seconds=monotonic() - began)


def _roles() -> list[tuple[str, int]]:
    return [("executor", 1), *(("worker", number) for number in range(1, WORKERS + 1))]


def _child(role: str, number: int, settings: dict[str, Any], logs: Path) -> Child:
    command = [sys.executable, "-m", "chaos.naive.flow", role, json.dumps(settings)]
    return Child(f"naive-{role}-{number}", command, log=logs / f"naive-{role}-{number}.log", env=inherited())


def _asked(seed: random.Random) -> Asked:
    key, identity = seed.choice(KEYS), UUID(str(uuid7()))
    return Asked(
        id=identity,
        flavour=key,
        request={"job": str(identity), "key": key},
        ends=frozenset({"completed"}),
        limits=((key, LIMIT),),
        cancelled=False,
    )


async def _database(server_url: str) -> str:
    name = f"naive_{secrets.token_hex(4)}"
    server = Eyes(server_url)
    await server.run(f'CREATE DATABASE "{name}"')
    await server.close()
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    eyes = Eyes(url)
    for statement in SQL["make_tables"].split(";;"):
        await eyes.run(statement)
    await eyes.close()
    return url


async def _declared(channel: AbstractChannel, prefix: str) -> list[str]:
    """Declare the toy's queues, and return the list in which the job of every `completed` appears."""
    for kind in KINDS:
        queue = await channel.declare_queue(f"{prefix}.{kind}", durable=True)
        await queue.bind(EXCHANGE, f"{prefix}.{kind}")
    heard: list[str] = []

    async def hear(message: AbstractIncomingMessage) -> None:
        heard.append(json.loads(message.body)["job"])

    ear = await channel.declare_queue(exclusive=True)
    await ear.bind(EXCHANGE, f"{prefix}.completed")
    await ear.consume(hear, no_ack=True)
    return heard


async def _kill(fault: Fault, children: list[Child], seed: random.Random) -> None:
    """Kill, and start again at once."""
    while fault.kill_every:
        await asyncio.sleep(fault.kill_every)
        for child in (children[0], seed.choice(children[1:])):
            child.kill()
            await child.wait()
            child.start()


async def _ask(channel: AbstractChannel, prefix: str, asked: list[Asked], seconds: float) -> None:
    began = monotonic()
    exchange = await channel.get_exchange(EXCHANGE, ensure=False)
    for number, each in enumerate(asked):
        if number % CHUNK == 0:
            await asyncio.sleep(max(0.0, began + seconds * number / len(asked) - monotonic()))
        await exchange.publish(aio_pika.Message(json.dumps(each.request).encode()), f"{prefix}.requests")


async def _quiet(eyes: Eyes) -> float:
    """Wait until nothing moves any more; return for how many seconds nothing has."""
    while True:
        await asyncio.sleep(1)
        idle = float((await eyes.run(SQL["idle"]))[0]["seconds"])
        if idle > QUIET:
            return idle


async def _figures(eyes: Eyes, asked: list[Asked], heard: list[str], evidence: Path, idle: float) -> Figures:
    moves = [Move(**row) for row in await eyes.run(SQL["history"])]
    file = evidence / NOTES
    notes = file.read_text().splitlines() if file.exists() else []
    told = evidence / "active"
    # Nothing runs any more: whatever is still counted is counted for ever, above or below zero.
    left = sum(map(abs, json.loads(told.read_text()).values())) if told.exists() else 0
    figures = audit(
        Material(asked=asked, moves=moves, facts={}, notes=notes, drift=left, leaked_s=idle if left else 0.0)
    )
    ends = {str(move.execution_id) for move in moves if move.target == "completed"}
    counted = Counter(heard)
    return replace(
        figures,
        events_missing=sum(identity not in counted for identity in ends),
        events_extra=sum(number - 1 for number in counted.values()),
    )
