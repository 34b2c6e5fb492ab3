"""What the client tells about keys, pools and the reason why an execution is where it is. Knows no database."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from interlock.contract.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """One key and how it stands. `scope` is leaf, or parent for what batches and workflows hold.

    `limit` None is no limit, 0 closed. `rate` is written as in a definition, `burst` belongs to it. `oldest_waiting` is
    since when the first of its waiters waits, `wake_at` when the rate lets the next one go. The totals are of all time
    and count what met the key while it was bounded or waited for. `wait_p50`, `wait_p95` and `wait_p99`: half of those
    admitted in the last hour waited less than so many seconds, and so on; exact within a factor of two.
    """

    scope: str
    name: str
    limit: int | None
    rate: str | None
    burst: int | None
    cap: int | None
    cap_policy: str
    paused: bool
    template: str | None
    active: int
    waiting: int
    oldest_waiting: datetime | None
    wake_at: datetime | None
    admitted: int
    finished: int
    cancelled: int
    wait_p50: float | None
    wait_p95: float | None
    wait_p99: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """One worker pool. `workers` have a live lease and take work, `draining` ones finish what they have.

    `capacity` is how many the former can run at once. In flight are those that run (or are being cancelled) and those
    that are `scheduled` and not taken yet; `room` is how many more are dispatched. `waiting` counts all waiters of the
    pool, whatever they wait for.
    """

    name: str
    paused: bool
    workers: int
    draining: int
    capacity: int
    running: int
    scheduled: int
    room: int
    waiting: int
    oldest_waiting: datetime | None

    @property
    def in_flight(self) -> int:
        """How many are dispatched or running."""
        return self.running + self.scheduled


class Reason(StrEnum):
    """Why an execution is where it is. The words are public: programs may rely on them."""

    SLOTS = "slots"
    CLOSED = "closed"
    KEY_PAUSED = "key_paused"
    RATE_LIMITED = "rate_limited"
    RESERVED = "reserved"
    POOL_BUSY = "pool_busy"
    POOL_PAUSED = "pool_paused"
    NO_WORKER = "no_worker"
    NOT_BEFORE = "not_before"
    RETRY = "retry"
    PAUSED = "paused"
    ENTERING = "entering"
    OWED = "owed"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    CANCELLING = "cancelling"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A number that is not counted to its end: `count`, and whether there are `more`."""

    count: int
    more: bool = False

    def __str__(self) -> str:
        """Return the number as people say it."""
        return f"more than {self.count}" if self.more else str(self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockingKey:
    """The key that a lane waits for, with what bounds it."""

    scope: str
    name: str
    limit: int | None
    rate: str | None
    paused: bool
    active: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One execution that holds a slot. It has a worker and a lease once it runs."""

    id: UUID
    action: str
    status: Status
    since: datetime
    worker_id: UUID | None
    lease_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why one execution is where it is, at one moment: a code for programs, a sentence for people, and the facts.

    `since`: when it came there. `until`: when that ends by itself (a time, a rate, a lease). `position` is its place in
    its lane, from 1; `ahead` counts those that wait for the same key and go first. `holders` are the first 20 of
    `holders_total` that hold a slot of `key`; `also_full` are other keys of it that have no room. `first` is the
    execution that room is kept for. What does not belong to the reason is None or empty. A partition has its batch
    as `parent_id` and its key as `child_key`.
    """

    id: UUID
    action: str
    status: Status
    reason: Reason
    sentence: str
    since: datetime | None
    until: datetime | None = None
    position: Count | None = None
    ahead: Count | None = None
    key: BlockingKey | None = None
    also_full: tuple[str, ...] = ()
    first: UUID | None = None
    holders: tuple[Holder, ...] = ()
    holders_total: int = 0
    pool: PoolState | None = None
    worker_id: UUID | None = None
    parent_id: UUID | None = None
    child_key: str | None = None
