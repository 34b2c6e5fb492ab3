"""What the client tells of batches: frozen values as they stood when they were read. Knows no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from pydantic import JsonValue

    from interlock.contract.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """One batch. `made` partitions are there so far; `total` is None until no more can come.

    `planned` says that its plan is whole, `sealed` that no more can come. The counts by status, what is in flight and
    what waits add up to `made`. `percent` is rounded down, and 100 only when the batch has ended. `rate` is partitions
    per second, `eta_seconds` None where nothing moves. `stalled_since` and `stalled_reason` say since when, and what it
    waits for.
    """

    id: UUID
    name: str
    status: Status
    epoch: int
    params: dict[str, JsonValue]
    planned: bool
    sealed: bool
    made: int
    total: int | None
    completed: int
    partial: int
    failed: int
    timed_out: int
    cancelled: int
    abandoned: int
    skipped: int
    scheduled: int
    running: int
    waiting: int
    percent: int
    rate: float | None
    eta_seconds: float | None
    stalled_since: datetime | None
    stalled_reason: str | None
    max_parallel: int | None
    paused: bool
    error: dict[str, JsonValue] | None
    cancel_reason: str | None
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def processed(self) -> int:
        """How many partitions have ended."""
        return (
            self.completed
            + self.partial
            + self.failed
            + self.timed_out
            + self.cancelled
            + self.abandoned
            + self.skipped
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One partition; `superseded_by` is what a restart made in its place, or the planning by which it is gone."""

    id: UUID
    key: str
    status: Status
    attempt: int
    epoch: int
    superseded_by: UUID | None
    error: dict[str, JsonValue] | None
    result: JsonValue
    started_at: datetime | None
    finished_at: datetime | None
    worker_id: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failed partitions that look alike: how many, what they say, and the first keys."""

    fingerprint: str
    error_class: str
    message: str
    partitions: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which partitions a restart takes: those that are all of what is given. None is any."""

    statuses: tuple[Status, ...] | None
    keys: tuple[str, ...] | None = None
    errors: tuple[str, ...] | None = None

    @property
    def columns(self) -> tuple[list[str] | None, list[str] | None, list[str] | None]:
        """Return its statuses, keys and errors as the statements take them."""
        return (
            None if self.statuses is None else [str(each) for each in self.statuses],
            None if self.keys is None else list(self.keys),
            None if self.errors is None else list(self.errors),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What became of partitions that were to be added: keys that are new, and keys that were there already."""

    added: tuple[str, ...]
    known: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenShare:
    """Partitions of one status that a restart would take: how many, and the first ten keys."""

    status: Status
    partitions: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a restart would take, by status; `unknown` are keys that were asked for and that no partition has."""

    shares: tuple[ChosenShare, ...]
    unknown: tuple[str, ...]

    @property
    def partitions(self) -> int:
        """How many partitions a restart would take."""
        return sum(share.partitions for share in self.shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyShare:
    """Some keys of a plan: how many, and the first ten."""

    partitions: int = 0
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a plan that was made anew, the `preview`, would do to a batch.

    Of what is the `same`, `again` is chosen to be made again and all else is kept; `changed` has other parameters in
    the new plan. `unknown` are keys that were chosen and that no partition has.
    """

    preview: UUID
    epoch: int
    new: KeyShare
    gone: KeyShare
    same: KeyShare
    again: KeyShare
    changed: KeyShare
    unknown: tuple[str, ...]

    @property
    def made(self) -> int:
        """How many partitions the restart would make."""
        return self.new.partitions + self.again.partitions


@dataclass(frozen=True, slots=True, kw_only=True)
class Replanned:
    """What a restart with another plan did: how many partitions it makes, and how many are gone."""

    made: int
    gone: int
