"""Messages that could not be handled: looked at, sent again to where they came from, or dropped.

A replay is an outbox row, written in the transaction that marks the message, so it is neither lost nor asked for twice;
the role whose exchange it is publishes it until the broker has confirmed it. This module needs no broker.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from interlock.client import store
from interlock.client.patience import Patience
from interlock.contract.errors import InterlockError
from interlock.contract.events import MAX_EVENTS, MAX_MESSAGE_BYTES
from interlock.contract.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from asyncpg import Record

    from interlock.adapters.postgres import Tx

CHUNK: Final = 500
REPLAYED_AT_ONCE: Final = 10
"""Messages of one transaction: each may have megabytes."""
_NAMES: Final = Topology("")


class UnknownMessage(InterlockError):
    """No poison message has such a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonMessage:
    """One message that was put aside, without its body of `size` bytes. `replayed_at`: None until it is sent again."""

    id: int
    queue: str
    reason: str
    detail: str
    content_type: str | None
    size: int
    received_at: datetime
    replayed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonSelection:
    """Messages that pass all that is given. `queue` may be the end of a name; `older` is seconds since they came."""

    queue: str | None = None
    reason: str | None = None
    older: float = 0.0
    replayed: bool = False
    """With those that were sent again already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonShare:
    """How many messages of one queue were put aside for one reason."""

    queue: str
    reason: str
    messages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonPreview:
    """What a selection means now. `until` bounds it: what is put aside later is not part of it."""

    messages: int
    shares: tuple[PoisonShare, ...]
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What became of one replay: `problem` says why a message was not sent again, None if it was."""

    id: int
    problem: str | None


class Route(NamedTuple):
    """How a message goes where it came from: the outbox row."""

    role: str
    exchange: str
    routing_key: str
    events: int
    body: str


class Unfit(InterlockError):
    """A message that would only be put aside again."""


class PoisonMessages(Patience):
    """The client's view of `poison_message`."""

    async def list(
        self, selection: PoisonSelection, *, limit: int = 50, before: int | None = None
    ) -> Sequence[PoisonMessage]:
        """At most `limit` messages of the selection, newest first, behind the one numbered `before`."""
        return await self._patiently(_listed, selection, limit, before)

    async def get(self, number: int) -> tuple[PoisonMessage, bytes]:
        """One message with its body. Raises UnknownMessage."""
        return await self._patiently(_get, number)

    async def preview(self, selection: PoisonSelection) -> PoisonPreview:
        """Tell what the selection means now. Writes nothing."""
        return await self._patiently(_preview, selection)

    async def numbers(self, selection: PoisonSelection, until: int, after: int = 0) -> Sequence[int]:
        """The numbers of a chunk of the selection, as it was previewed, behind `after`, oldest first."""
        return await self._patiently(_numbers, selection, until, after)

    async def replay(self, numbers: Collection[int]) -> Sequence[Replay]:
        """Send messages again to where they came from, each once; what cannot be handled is put aside as a new one.

        A message that had been handled after all does no harm: whatever reads it finds nothing to do.
        """
        wanted = sorted(set(numbers))
        outcomes: dict[int, Replay] = {}
        for start in range(0, len(wanted), REPLAYED_AT_ONCE):
            outcomes |= await self._patiently(_replay, wanted[start : start + REPLAYED_AT_ONCE])
        return [outcomes[number] for number in dict.fromkeys(numbers)]

    async def drop(self, numbers: Collection[int]) -> int:
        """Delete messages; returns how many there were."""
        return await self._patiently(_drop, sorted(set(numbers)))


async def _listed(tx: Tx, selection: PoisonSelection, limit: int, before: int | None) -> list[PoisonMessage]:
    rows = await tx.fetch(store.SQL["poison_list"], *_filters(selection), before, limit)
    return [PoisonMessage(**row) for row in rows]


async def _get(tx: Tx, number: int) -> tuple[PoisonMessage, bytes]:
    row = await tx.fetchrow(store.SQL["poison_get"], number)
    if row is None:
        raise UnknownMessage(f"no poison message {number}; `interlock poison list` shows them")
    fields = dict(row)
    body = bytes(fields.pop("body"))
    return PoisonMessage(**fields), body


async def _preview(tx: Tx, selection: PoisonSelection) -> PoisonPreview:
    rows = await tx.fetch(store.SQL["poison_shares"], *_filters(selection))
    shares = tuple(PoisonShare(queue=row["queue"], reason=row["reason"], messages=row["messages"]) for row in rows)
    return PoisonPreview(
        messages=sum(share.messages for share in shares),
        shares=shares,
        until=max((row["last"] for row in rows), default=0),
    )


async def _numbers(tx: Tx, selection: PoisonSelection, until: int, after: int) -> list[int]:
    rows = await tx.fetch(store.SQL["poison_numbers"], *_filters(selection), until, after, CHUNK)
    return [row["id"] for row in rows]


def _filters(selection: PoisonSelection) -> tuple[str | None, str | None, float, bool]:
    return selection.queue, selection.reason, selection.older, selection.replayed


async def _replay(tx: Tx, numbers: Sequence[int]) -> dict[int, Replay]:
    found = {row["id"]: row for row in await tx.fetch(store.SQL["poison_lock"], list(numbers))}
    routes: dict[int, Route] = {}
    problems: dict[int, str] = {}
    for number in numbers:
        try:
            routes[number] = _judged(found.get(number))
        except Unfit as unfit:
            problems[number] = str(unfit)
    await tx.execute(store.SQL["poison_replay"], list(routes), *_columns(list(routes.values())))
    return {number: Replay(id=number, problem=problems.get(number)) for number in numbers}


def _columns(routes: Sequence[Route]) -> list[list[Any]]:
    return [[getattr(route, name) for route in routes] for name in Route._fields]


async def _drop(tx: Tx, numbers: Sequence[int]) -> int:
    return len(await tx.fetch(store.SQL["poison_drop"], list(numbers)))


def _judged(row: Record | None) -> Route:
    if row is None:
        raise Unfit("there is no such message")
    if row["replayed_at"] is not None:
        raise Unfit(f"it was sent again before, at {row['replayed_at']:%Y-%m-%d %H:%M:%S} UTC")
    return route(row["queue"], bytes(row["body"]))


def route(queue: str, body: bytes) -> Route:
    """Tell how a message gets into this queue again. Raises Unfit for one that would only be put aside again."""
    if len(body) > MAX_MESSAGE_BYTES:
        raise Unfit(f"it has {len(body)} bytes, and a message may have {MAX_MESSAGE_BYTES}")
    try:
        text = body.decode("utf-8")
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unfit(f"it is not JSON in UTF-8: {error}") from error
    if document == [] or (isinstance(document, list) and len(document) > MAX_EVENTS):
        raise Unfit(f"a batch has 1 to {MAX_EVENTS} events, and it has {len(document)}")
    first = document[0] if isinstance(document, list) else document
    role, exchange, key = _address(queue, first if isinstance(first, dict) else {})
    if isinstance(document, list) and len(document) == 1:
        # The kind of message is told by how many events it has: one alone is not a batch.
        return Route(role, exchange, key, 1, json.dumps(first))
    return Route(role, exchange, key, len(document) if isinstance(document, list) else 1, text)


def _address(queue: str, event: dict[str, Any]) -> tuple[str, str, str]:
    """Whose outbox, which exchange (without the prefix) and which key lead into a queue."""
    data = event.get("data")
    told = data if isinstance(data, dict) else {}
    if queue.endswith((_NAMES.requests_queue.name, _NAMES.dead_queue.name)):
        # Dead letters come from requests: no other queue has a place for them.
        keys = [each.routing_key for each in _NAMES.bindings if each.queue == _NAMES.requests_queue.name]
        return "executor", "requests", event["type"] if event.get("type") in keys else keys[0]
    if queue.endswith(_NAMES.status_queue.name):
        kind = "leaf" if told.get("parent_id") is None else "child"
        return "executor", "status", f"execution.status_changed.{told.get('to')}.{kind}"
    if queue.endswith(_NAMES.completed_queue.name):
        return "worker", _COMPLETIONS, f"execution.completed.{told.get('status')}"
    raise Unfit(f"nothing leads into the queue {queue}")


_COMPLETIONS: Final = _NAMES.completions.name.removeprefix(".")
