"""What becomes a row: a request that was judged, a partition, or the planning of a batch. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from interlock.contract.canonical import canonical_json
from interlock.contract.identity import child_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

    from interlock.contract.keys import Bounds

T = TypeVar("T")
PLAN: Final = "$plan"
"""The action and the child key of the execution that plans a batch; no definition can have this name."""


@dataclass(frozen=True, slots=True)
class LaneKey:
    """One key of a lane. `template` and `bounds` are what its definition says, should the key have to be made."""

    scope: str
    name: str
    template: str | None = None
    bounds: Bounds | None = field(default=None, compare=False)


@dataclass(slots=True, kw_only=True)  # not frozen, which would double what making 500 of them costs
class Candidate:
    """One request ready for the database: accepted by the rules, or carrying its refusal as `error`.

    `keys` are those of its lane, the pool among them; `hash` is the SHA-256 of what makes two requests the same.
    `batch` is the definition of a batch, as JSON, and `plan` the execution that plans it; `parent`, `child_key` and
    `epoch` are those of a child.
    """

    id: UUID
    action: str
    version: int | None
    pool: str
    priority: int
    keys: tuple[LaneKey, ...]
    params: str
    hash: bytes
    tags: str
    not_before: datetime | None
    deadline: datetime | None
    queue_timeout: float | None
    total_timeout: float | None
    idempotency_key: str | None
    error: str | None
    batch: str | None = None
    plan: Candidate | None = None
    parent: UUID | None = None
    child_key: str | None = None
    epoch: int = 1


def planned(batch: UUID, epoch: int, *, pool: str, priority: int, not_before: datetime | None = None) -> Candidate:
    """The execution that plans a batch: a leaf of its own pool, without keys, and not a partition."""
    identity = child_id(batch, epoch, PLAN)
    return Candidate(
        id=identity,
        action=PLAN,
        version=None,
        pool=pool,
        priority=priority,
        keys=(LaneKey("pool", pool),),
        params="{}",
        hash=identity.bytes,
        tags="[]",
        not_before=not_before,
        deadline=None,
        queue_timeout=None,
        total_timeout=None,
        idempotency_key=None,
        error=None,
        parent=batch,
        child_key=PLAN,
        epoch=epoch,
    )


def column(values: Iterable[T | None]) -> list[T | None] | None:
    """Return an argument for the database, one value per candidate; None where nobody has any, which costs nothing."""
    values = list(values)
    return values if any(value is not None for value in values) else None


def refusal(code: str, message: str) -> str:
    """The error of what is refused, as JSON."""
    return canonical_json({"class": code, "message": printable(message, 1000)})


def printable(text: str, most: int = 100) -> str:
    """Return at most so many characters of a text, those that cannot be shown replaced."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:most])
