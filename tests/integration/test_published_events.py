"""What the database writes into the outbox is what the contract reads and the page about events shows."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aio_pika

from interlock.adapters.declarations import Declarations
from interlock.contract.events import BATCH, SINGLE, Requested, decode
from interlock.contract.topology import Topology

if TYPE_CHECKING:
    from tests.world import World

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
EXAMPLES = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]
WRITTEN_BY_THE_DATABASE = {
    "execution.cancel",
    "execution.completed",
    "execution.scheduled",
    "execution.status_changed",
    "outbox.waiting",
}


def fields(event: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the names in the envelope and in its data, in order."""
    return list(event), list(event["data"])


async def test_every_message_is_read_by_the_contract_and_has_the_fields_shown(world: World) -> None:
    finished, stopped, waiting = await world.submit(3)
    await world.run(world.hand, finished)
    await world.claim(world.hand, stopped)
    await world.admit(decide={stopped: "cancelled", waiting: "cancelled"})
    await world.finish(world.hand, stopped, "cancelled", "cancelling")
    shown = {event["type"]: fields(event) for event in EXAMPLES}
    seen = set()
    for row in await world.tx.fetch("SELECT events, body FROM outbox ORDER BY id"):
        found, unusable = decode(row["body"].encode(), SINGLE if row["events"] == 1 else BATCH)
        assert (len(found), unusable) == (row["events"], [])
        document = json.loads(row["body"])
        for event in document if isinstance(document, list) else [document]:
            assert fields(event) == shown[event["type"]]
            seen.add(event["type"])
    assert seen == WRITTEN_BY_THE_DATABASE


async def test_the_example_submits_a_request_that_the_contract_reads(amqp_url: str, prefix: str) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    topology = Topology(prefix)
    async with await aio_pika.connect(amqp_url) as connection:
        await Declarations(topology).declare_all(connection)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            example,
            env={**os.environ, "INTERLOCK_AMQP_URL": amqp_url, "INTERLOCK_PREFIX": prefix},
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate()
        channel = await connection.channel()
        queue = await channel.get_queue(topology.requests_queue.name, ensure=False)
        message = await queue.get(no_ack=True)
    assert process.returncode == 0
    assert message is not None
    (event,), unusable = decode(message.body, message.content_type)
    assert unusable == []
    assert isinstance(event, Requested)
    assert UUID(event.data["id"]) == UUID(told.decode().strip())
