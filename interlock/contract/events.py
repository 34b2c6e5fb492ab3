"""CloudEvents 1.0 in JSON: the envelope, the event types, and the two content types they travel in.

Law 1. The row is the truth; a message is a hint. An event holds ids and facts; whoever reads one re-reads the row.

Decoding separates what is usable from what is not, event by event: one bad event in a message of 500 harms itself only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from interlock.contract.canonical import storable_text
from interlock.contract.errors import Malformed
from interlock.contract.json_text import MAX_DEPTH, dump, parse, too_deep
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MAX_EVENT_BYTES = 1024 * 1024
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_EVENTS = 500


class _Frozen(BaseModel):
    # Unknown fields are ignored in hints: a newer publisher must not stop an older reader.
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class StatusChangedData(_Frozen):
    """One committed move of one execution."""

    id: UUID
    attempt: int
    epoch: int
    source: Status | None = Field(alias="from")
    target: Status = Field(alias="to")
    action: str
    parent_id: UUID | None = None


class CompletedData(_Frozen):
    """The end of one execution in one epoch, whatever the outcome."""

    id: UUID
    action: str
    status: Status
    attempt: int
    epoch: int
    parent_id: UUID | None = None
    finished_at: str


class ScheduledData(_Frozen):
    """One admitted execution: the worker reads the row when it claims."""

    id: UUID
    attempt: int


class CancelData(_Frozen):
    """To the worker that holds the execution. `force`: it gets no grace."""

    id: UUID
    attempt: int
    force: bool = False


class CancelRequestedData(_Frozen):
    """From any client. `force`: what runs gets no grace."""

    id: UUID
    reason: Annotated[str, Field(max_length=1000), AfterValidator(storable_text)] = ""
    force: bool = False


class CanaryData(_Frozen):
    """From a process to itself; `number` rises by one."""

    number: int


class _Envelope(_Frozen):
    specversion: Literal["1.0"]
    id: Annotated[str, Field(min_length=1, max_length=256)]
    source: Annotated[str, Field(min_length=1, max_length=1024)]
    subject: str | None = None
    datacontenttype: str | None = None
    traceparent: str | None = None


class StatusChanged(_Envelope):
    """`execution.status_changed`, from the owner of the move."""

    type: Literal["execution.status_changed"]
    data: StatusChangedData


class Completed(_Envelope):
    """`execution.completed`, from workers only."""

    type: Literal["execution.completed"]
    data: CompletedData


class Scheduled(_Envelope):
    """`execution.scheduled`, from the executor to a pool."""

    type: Literal["execution.scheduled"]
    data: ScheduledData


class Cancel(_Envelope):
    """`execution.cancel`, from the executor to one worker."""

    type: Literal["execution.cancel"]
    data: CancelData


class CancelRequested(_Envelope):
    """`execution.cancel_requested`, from any client."""

    type: Literal["execution.cancel_requested"]
    data: CancelRequestedData


class Requested(_Envelope):
    """`execution.requested`, from any client. Its data is judged by acceptance, so that a refusal becomes a row."""

    type: Literal["execution.requested"]
    data: dict[str, Any]


class Canary(_Envelope):
    """`worker.canary`, from each process to itself."""

    type: Literal["worker.canary"]
    data: CanaryData


class OutboxWaiting(_Envelope):
    """`outbox.waiting`, from the executor to any worker: messages of the worker role wait to be published."""

    type: Literal["outbox.waiting"]
    data: dict[str, Any] = {}


Event = StatusChanged | Completed | Scheduled | Cancel | CancelRequested | Requested | Canary | OutboxWaiting
_OPEN = (Requested, OutboxWaiting)
"""Whose data is kept as it came."""
TYPES = frozenset(get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(Event))
_ONE: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
_MANY: TypeAdapter[list[Event]] = TypeAdapter(list[Annotated[Event, Field(discriminator="type")]])


@dataclass(frozen=True, slots=True)
class Unusable:
    """One event, or a whole message, that breaks the contract: what it was, the stable reason, and the sentence."""

    body: bytes
    reason: str
    detail: str


def decode(body: bytes, content_type: str | None) -> tuple[list[Event], list[Unusable]]:
    """Split one message into the events that can be handled and those that must be parked.

    `content_type` is the AMQP property; it must be one of SINGLE and BATCH (parameters such as charset are ignored).
    Never raises for bad input: what cannot be read is in the second list.
    """
    try:
        documents = _documents(body, content_type)
    except Malformed as error:
        return [], [Unusable(body, error.reason, str(error))]
    if len(body) <= MAX_EVENT_BYTES:
        try:
            read = _MANY.validate_python(documents)
        except ValidationError:
            pass  # At least one is bad: look at each, so that the others are handled.
        else:
            # What a hint has beyond its fields is dropped by now, however deep it was.
            if not too_deep([event.data for event in read if type(event) in _OPEN], MAX_DEPTH - 1):
                return read, []
    events: list[Event] = []
    unusable: list[Unusable] = []
    for document in documents:
        try:
            events.append(_event(document))
        except Malformed as error:
            # What is too deep to be written again is kept in the message that brought it.
            kept = body if error.reason == "too_deep" else dump(document)
            unusable.append(Unusable(kept, error.reason, str(error)))
    return events, unusable


def _documents(body: bytes, content_type: str | None) -> list[Any]:
    kind = (content_type or "").split(";", 1)[0].strip().lower()
    if kind not in {SINGLE, BATCH}:
        raise Malformed(
            f"content type {content_type!r} is not one of {SINGLE} and {BATCH}: set it on the message", "content_type"
        )
    if len(body) > MAX_MESSAGE_BYTES:
        raise Malformed(
            f"{len(body)} bytes in one message; at most {MAX_MESSAGE_BYTES} are allowed: send several messages",
            "oversized",
        )
    document = parse(body)
    if kind == SINGLE:
        return [document]
    if not isinstance(document, list) or not 1 <= len(document) <= MAX_EVENTS:
        raise Malformed(f"a batch is a JSON array of 1 to {MAX_EVENTS} events", "malformed_batch")
    return document


def _event(document: object) -> Event:
    if not isinstance(document, dict):
        raise Malformed("an event is a JSON object", "malformed_event")
    if too_deep([document]):
        raise Malformed(f"an event may be nested {MAX_DEPTH} levels deep: flatten its data", "too_deep")
    if len(dump(document)) > MAX_EVENT_BYTES:
        raise Malformed(f"an event may have {MAX_EVENT_BYTES} bytes: pass a reference instead of the data", "oversized")
    if document.get("specversion") != "1.0":
        raise Malformed(
            f"specversion {document.get('specversion')!r} is not known; this daemon reads 1.0", "unknown_version"
        )
    if not isinstance(document.get("type"), str) or document["type"] not in TYPES:
        raise Malformed(
            f"event type {document.get('type')!r} is not known; known are {', '.join(sorted(TYPES))}", "unknown_type"
        )
    try:
        return _ONE.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        raise Malformed(f"{document['type']}: {field}: {first['msg']}", "malformed_event") from error


def _document(event: Event) -> dict[str, Any]:
    if not isinstance(event, Requested):
        return event.model_dump(mode="json", by_alias=True, exclude_unset=True)
    # A client's data goes out as it came in, also names that are no Unicode.
    return {**event.model_dump(mode="json", exclude_unset=True, exclude={"data"}), "data": event.data}


def encode(events: Sequence[Event]) -> tuple[bytes, str]:
    """The body and content type of one message: a single event as SINGLE, several as BATCH."""
    # What was said is said again, an explicit null too: `from` is null for a row that had no status before.
    documents = [_document(event) for event in events]
    return (dump(documents[0]), SINGLE) if len(documents) == 1 else (dump(documents), BATCH)


def requested(source: str, requests: Iterable[dict[str, Any]]) -> list[Requested]:
    """Wrap request data (each with its `id`) as events of `source`; the event id is the execution's id."""
    return [
        Requested(
            specversion="1.0",
            id=str(data["id"]),
            source=source,
            subject=str(data["id"]),
            type="execution.requested",
            data=data,
        )
        for data in requests
    ]
