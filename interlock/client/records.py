"""What the client returns: frozen values as they stood when they were read. Knows no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from interlock.contract.batches import Batch
from interlock.contract.definitions import Action
from interlock.contract.errors import InvalidDefinition

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue

    from interlock.contract.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One line of a list. `error` is `{"class", "message", …}`; times are aware, None where it has not happened.

    `kind` is action or batch. A partition has its batch as `parent_id` and its key as `child_key`; the planning of a
    batch is its child `$plan`.
    """

    id: UUID
    status: Status
    action: str
    attempt: int
    pool: str
    priority: int
    tags: tuple[str, ...]
    kind: str
    parent_id: UUID | None
    child_key: str | None
    error: dict[str, JsonValue] | None
    not_before: datetime | None
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution(Summary):
    """Everything about one execution but its history. `failures` and `losses` count what was tried again."""

    action_version: int | None
    failures: int
    losses: int
    moves: int
    epoch: int
    root_id: UUID
    superseded_by: UUID | None
    worker_id: UUID | None
    params: dict[str, JsonValue]
    result: JsonValue
    cancel_reason: str | None
    deadline: datetime | None
    paused_at: datetime | None
    scheduled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Summaries, newest first; `cursor` continues behind the last one, None at the end."""

    items: tuple[Summary, ...]
    cursor: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One transition; `move` numbers them from 1. `source` is None for acceptance."""

    move: int
    source: Status | None
    target: Status
    attempt: int
    epoch: int
    actor: str
    reason: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt that ended. `outcome` is a terminal status, `handed_back`, or `late` if the result was refused."""

    attempt: int
    outcome: str
    worker_id: UUID
    error_class: str | None
    error_text: str | None
    exit_code: int | None
    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of output. (`attempt`, `number`) is its place; `stream` is stdout, stderr, log or mark."""

    attempt: int
    number: int
    stream: str
    line: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """What became of one cancel. `status` is where the execution stands now, None where there is none yet.

    `moved` tells whether this cancel did it, `forced` whether it took the grace of what runs. An id without an
    execution is remembered for an hour.
    """

    id: UUID
    status: Status | None
    moved: bool
    forced: bool = False


def stored_action(name: str, definition: object) -> Action:
    """Return a definition as it is registered. Raises InvalidDefinition for one that this version cannot read."""
    try:
        return Action.from_stored(definition)
    except ValueError as error:
        raise InvalidDefinition(
            f"action {name} was registered by a newer version of Interlock; use that one to read it"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """The newest version of one action, and how its key stands: the live limit (None: none) and who holds and waits."""

    name: str
    version: int
    definition: dict[str, JsonValue]
    created_at: datetime
    withdrawn_at: datetime | None
    limit: int | None
    active: int
    waiting: int
    paused: bool
    kind: Literal["action"] = "action"

    @property
    def action(self) -> Action:
        """The definition with its defaults."""
        return stored_action(self.name, self.definition)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredBatch:
    """The newest version of one batch."""

    name: str
    version: int
    definition: dict[str, JsonValue]
    created_at: datetime
    withdrawn_at: datetime | None
    kind: Literal["batch"] = "batch"

    @property
    def batch(self) -> Batch:
        """The definition with its defaults. Raises InvalidDefinition for one that this version cannot read."""
        try:
            return Batch.from_stored(self.definition)
        except ValueError as error:
            raise InvalidDefinition(
                f"batch {self.name} was registered by a newer version of Interlock; use that one to read it"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What applying a set of definitions did, by name of the action or batch.

    `limits` are those of the keys whose bounds it changed.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    withdrawn: tuple[str, ...]
    limits: dict[str, int | None]
    keys: tuple[int, ...]
