"""What a request is and when it is refused. Pure: `now` is a parameter, definitions are handed in.

A request with a usable id always ends as a row: what cannot be accepted becomes a `failed` row with the reason.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from interlock.acceptance.candidates import Candidate, LaneKey, planned, printable, refusal
from interlock.acceptance.entries import BatchEntry, Entry
from interlock.actions.definition import examine_batch
from interlock.actions.rendering import render_keys
from interlock.actions.validation import Schema
from interlock.contract.canonical import canonical_json, storable_text
from interlock.contract.definitions import Name, Pool
from interlock.contract.errors import InvalidParams, Malformed, Refused, UnknownAction
from interlock.contract.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


CLOCK_SKEW: Final = timedelta(days=1)
MAX_TAGS: Final = 50
MOST_PROBLEMS: Final = 5
Text = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(storable_text)]


class Request(BaseModel):
    """The data of `execution.requested`. Unknown fields are refused: a typo must not be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: UUID
    action: Name
    params: dict[str, JsonValue] = Field(default_factory=dict)  # a default would be copied, deeply, each time
    idempotency_key: Text | None = None
    concurrency_key: Text | None = None
    priority: int | None = Field(default=None, ge=-100, le=100, strict=True)
    not_before: AwareDatetime | None = None
    deadline: AwareDatetime | None = None
    pool: Pool | None = None
    definition: dict[str, JsonValue] | None = None
    tags: Annotated[tuple[Text, ...], Field(max_length=MAX_TAGS)] = ()


def usable_id(data: dict[str, Any], now: datetime) -> UUID:
    """The execution id of request data. Raises Malformed unless it is a UUIDv7 made within a day of `now`."""
    try:
        identity = UUID(str(data["id"]))
    except (KeyError, ValueError) as error:
        message = f"id {data.get('id')!r} is not a UUID: send a fresh UUIDv7 with each request"
        raise Malformed(message, "unusable_id") from error
    made = (identity.int >> 80) / 1000  # The years of a UUIDv7 go beyond those of a datetime.
    if identity.version != 7 or abs(made - now.timestamp()) > CLOCK_SKEW.total_seconds():  # noqa: PLR2004
        message = (
            f"id {identity} is not a UUIDv7 made within a day of {now:%Y-%m-%d %H:%M} UTC: check the client's clock"
        )
        raise Malformed(message, "unusable_id")
    return identity


def judge(
    data: dict[str, Any], identity: UUID, known: Mapping[str, Entry | BatchEntry], names: Sequence[str] = ()
) -> Candidate:
    """Hold one request against the contract and its definition. Never raises for bad input: it is refused as a row.

    `known` maps names to the current entries of actions and batches; `names` are those to suggest for a misspelled one.
    """
    try:
        request = Request.model_validate(data)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        return _refused(data, identity, request_hash(data), "invalid_request", f"{field}: {first['msg']}")
    # One hash whether it is accepted or refused: a repeat must be the same request after its action came or went.
    digest = request_hash(request.__dict__)
    try:
        entry = _entry(request, known, names)
        entry.schema.check(request.params)
        if isinstance(entry, BatchEntry):
            return _accepted_batch(request, digest, entry)
        return _accepted(request, digest, entry)
    except ValueError as invalid:
        return _refused(data, identity, digest, InvalidParams.code, f"params: {invalid}")
    except Refused as refusal:
        return _refused(data, identity, digest, refusal.code, str(refusal))


def _entry(request: Request, known: Mapping[str, Entry | BatchEntry], names: Sequence[str]) -> Entry | BatchEntry:
    if request.definition is not None:
        return _inline(request.action, request.definition)
    entry = known.get(request.action)
    if entry is None or entry.withdrawn:
        hint = did_you_mean(request.action, names)
        fate = "was withdrawn" if entry else "is not registered"
        raise UnknownAction(f"action {request.action!r} {fate}{hint}; `interlock actions list` shows what is")
    return entry


def _inline(name: str, definition: dict[str, JsonValue]) -> BatchEntry:
    """The definition of a batch that the request brings itself."""
    examined = examine_batch({**definition, "batch": name})
    if isinstance(examined, list):
        raise InvalidParams("definition: " + "; ".join(str(problem) for problem in examined[:MOST_PROBLEMS]))
    return BatchEntry(batch=examined, version=None, withdrawn=False, schema=Schema(examined.params))


def _accepted(request: Request, digest: bytes, entry: Entry) -> Candidate:
    action = entry.action
    pool = request.pool or action.pool
    return Candidate(
        id=request.id,
        action=action.action,
        version=entry.version,
        pool=pool,
        priority=action.priority if request.priority is None else request.priority,
        keys=_keys(request, entry, pool),
        params=canonical_json(request.params),
        hash=digest,
        tags=canonical_json(list(request.tags)) if request.tags else "[]",
        not_before=request.not_before,
        deadline=request.deadline,
        queue_timeout=action.timeout.queue,
        total_timeout=action.timeout.total,
        idempotency_key=request.idempotency_key,
        error=None,
    )


def _accepted_batch(request: Request, digest: bytes, entry: BatchEntry) -> Candidate:
    batch = entry.batch
    if request.concurrency_key is not None:
        raise InvalidParams("concurrency_key: a batch holds no slot; give its action a key, or change its max_parallel")
    pool = request.pool or batch.pool
    priority = batch.priority if request.priority is None else request.priority
    plan = planned(request.id, 1, pool=pool, priority=priority, not_before=request.not_before)
    return Candidate(
        id=request.id,
        action=batch.batch,
        version=entry.version,
        pool=pool,
        priority=priority,
        keys=(),
        params=canonical_json(request.params),
        hash=digest,
        tags=canonical_json(list(request.tags)) if request.tags else "[]",
        not_before=None,
        deadline=request.deadline,
        queue_timeout=None,
        total_timeout=batch.deadline,
        idempotency_key=request.idempotency_key,
        error=None,
        # As it was asked for: its partitions and whatever plans it again go by what is pinned.
        batch=batch.model_copy(update={"pool": pool, "priority": priority}).canonical(),
        plan=None if batch.partition is None else plan,
    )


def _keys(request: Request, entry: Entry, pool: str) -> tuple[LaneKey, ...]:
    shared = entry.keys_in(pool)
    if request.concurrency_key is None and not entry.action.keys:
        return shared
    asked = () if request.concurrency_key is None else (LaneKey("leaf", f"key:{request.concurrency_key}"),)
    rendered = render_keys(entry.action, request.params)
    return (*shared, *asked, *(LaneKey("leaf", name, key.name, key) for name, key in rendered))


def _refused(data: dict[str, Any], identity: UUID, digest: bytes, code: str, message: str) -> Candidate:
    name = data.get("action")
    params = data.get("params", {})
    try:
        kept = canonical_json(params) if isinstance(params, dict) else "{}"
    except ValueError:
        kept = "{}"  # What the database cannot hold is named in the message.
    return Candidate(
        id=identity,
        action=printable(name) if isinstance(name, str) and name else "(none)",
        version=None,
        pool="default",
        priority=0,
        keys=(),
        params=kept,
        hash=digest,
        tags="[]",
        not_before=None,
        deadline=None,
        queue_timeout=None,
        total_timeout=None,
        idempotency_key=None,
        error=refusal(code, message),
    )


def request_hash(data: dict[str, Any]) -> bytes:
    """SHA-256 over action, parameters, keys, priority and times in canonical JSON: the same request, the same hash."""
    told = (
        "action",
        "params",
        "definition",
        "idempotency_key",
        "concurrency_key",
        "priority",
        "not_before",
        "deadline",
    )
    content = {name: _told(value) for name in told if (value := data.get(name)) is not None}
    try:
        text = canonical_json(content)
    except (ValueError, TypeError):
        # Only refused requests hold what has no canonical form.
        text = json.dumps(content, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).digest()


def _told(value: Any) -> Any:  # noqa: ANN401 - any JSON, and times
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def same_id(candidates: Iterable[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Split into the first of each id, and its repeats in the same flush."""
    first: dict[UUID, Candidate] = {}
    repeats = [candidate for candidate in candidates if first.setdefault(candidate.id, candidate) is not candidate]
    return list(first.values()), repeats
