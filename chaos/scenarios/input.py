"""Faults of those who write: messages that are no messages, and actions that return what nothing can hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from chaos.ear import FORGER
from chaos.flavours import ODD_COMMAND, ODD_OUTPUT
from chaos.sender import Sender
from chaos.trial import Scenario
from interlock.contract import events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.trial import Trial

EVERY: Final = 0.5


def _event(data: object, **fields: object) -> bytes:
    envelope = {"specversion": "1.0", "id": "1", "source": FORGER, "type": "execution.requested", "data": data}
    return json.dumps({**envelope, **fields}).encode()


def bad_messages(action: str) -> Iterator[tuple[bytes, str | None]]:
    """Yield each kind of message that must be put aside: its body and its content type."""
    good: dict[str, Any] = {"id": "7", "action": action}
    nested = "[" * 300 + "]" * 300
    yield b'{"specversion": "1.0", ', events.SINGLE
    yield b"\xff\xfe\x00", events.SINGLE
    yield b"", events.SINGLE
    yield b"[" * 100_000, events.BATCH
    yield _event(good), "text/plain"
    yield _event(good), None
    yield _event(good, type="execution.wanted"), events.SINGLE
    yield _event(good, specversion="2.0"), events.SINGLE
    yield _event({**good, "params": {"text": "x" * 2 * 1024 * 1024}}), events.SINGLE
    yield _event({**good, "params": {"text": "a\0b"}}), events.SINGLE
    yield _event({**good, "params": {"half": "\ud800"}}), events.SINGLE
    yield _event({**good, "params": "DEEP"}).replace(b'"DEEP"', nested.encode()), events.SINGLE
    yield b'{"specversion":"1.0","specversion":"1.0"}', events.SINGLE
    yield b"[]", events.BATCH
    yield b"7", events.SINGLE


async def bad_input(trial: Trial) -> None:
    """Send bad messages to every exchange that somebody may write to, beside actions with bad output."""
    topology, endpoints = trial.stage.topology, trial.stage.endpoints
    ways = [
        (Sender(endpoints.client), topology.requests.name, "execution.requested"),
        (Sender(endpoints.worker), topology.status.name, "execution.status_changed.completed.leaf"),
        (Sender(endpoints.worker), topology.completions.name, "execution.completed.completed"),
        (Sender(endpoints.executor), topology.dispatch.name, trial.stage.pool),
    ]
    wanted = [(way, message) for way in ways for message in bad_messages(f"{trial.stage.name}.plain")]
    sent = 0
    for (sender, exchange, key), (body, content_type) in trial.seed.sample(wanted, len(wanted)):
        trial.spoilt.add(body)
        await sender.publish(exchange, key, body, content_type)
        sent += 1
        await trial.pause(EVERY)
    for sender, *_ in ways:
        await sender.close()
    trial.notes.append(f"{sent} bad messages were sent")


SCENARIOS: Final = (
    Scenario(
        name="bad-input",
        sentence="messages and results of actions break every rule there is",
        fault=bad_input,
        flavours=(ODD_OUTPUT, ODD_COMMAND),
    ),
)
