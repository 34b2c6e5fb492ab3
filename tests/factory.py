"""One factory makes an execution in any state, with the whole history, attempts and rows that belong to it.

What it makes breaks no invariant: a test that wants a broken row breaks it by hand.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from uuid_utils.compat import uuid7

from interlock.contract.definitions import Action
from interlock.contract.status import TERMINAL, Owner, Status

if TYPE_CHECKING:
    from asyncpg import Connection

EXECUTOR: Final = f"/executor/{UUID(int=1)}"
_WAITED: Final = ((Status.REQUESTED, Owner.EXECUTOR),)
_DISPATCHED: Final = (*_WAITED, (Status.SCHEDULED, Owner.EXECUTOR))
_RAN: Final = (*_DISPATCHED, (Status.RUNNING, Owner.WORKER))
PATHS: Final = {
    Status.REQUESTED: _WAITED,
    Status.SCHEDULED: _DISPATCHED,
    Status.RUNNING: _RAN,
    Status.CANCELLING: (*_RAN, (Status.CANCELLING, Owner.EXECUTOR)),
    Status.CANCELLED: (*_WAITED, (Status.CANCELLED, Owner.EXECUTOR)),
    Status.ABANDONED: (*_RAN, (Status.ABANDONED, Owner.EXECUTOR)),
    **{
        end: (*_RAN, (end, Owner.WORKER))
        for end in (Status.COMPLETED, Status.PARTIAL, Status.FAILED, Status.TIMED_OUT, Status.SKIPPED)
    },
}
"""How each status is reached, from acceptance on, and who makes each move."""

_INSERT: Final = """
INSERT INTO execution (id, status, attempt, moves, action, action_version, root_id, pool, priority, worker_id, params,
                       request_hash, tags, result, error, cancel_reason, not_before, scheduled_at, started_at,
                       finished_at)
SELECT $1, $2::text::status, $3, $4, $5, 1, $1, $6, $7, $8, $9::text::jsonb, sha256('a test'), $10::text::jsonb,
       $11::text::jsonb, $12::text::jsonb, CASE WHEN $2 LIKE 'cancel%' THEN 'by a test' END,
       CASE WHEN $2 = 'requested' THEN now() + interval '1 hour' END, CASE WHEN $3 > 0 THEN now() END,
       CASE WHEN $13 THEN now() END, CASE WHEN $14 THEN now() END
"""
_MOVE: Final = """
WITH moved AS (
    UPDATE execution e SET status = $3::text::status, moves = e.moves + 1, worker_id = $4, result = $5::text::jsonb,
                           started_at = coalesce(e.started_at, now()),
                           finished_at = CASE WHEN is_terminal($3::text::status) THEN now() END
    WHERE e.id = $1 AND e.status = $2::text::status RETURNING e.*
)
SELECT record_moves(array_agg(ROW(id, epoch, moves, $2, status, attempt, action, parent_id, pool, NULL, NULL, NULL,
                                  NULL, $4)::move), 'worker', '/worker/' || $4::text) FROM moved
"""


async def make_action(connection: Connection[Any], name: str = "job", *, version: int = 1, **fields: Any) -> Action:  # noqa: ANN401 - the fields of an action
    """Register one version of an action, a command unless the fields say otherwise."""
    action = Action(action=name, **({"command": ("true",)} | fields))
    await connection.execute(
        "INSERT INTO action (name, version, definition, checksum) VALUES ($1, $2, $3, $4)",
        name,
        version,
        action.canonical(),
        action.checksum(),
    )
    return action


async def make_worker(
    connection: Connection[Any], *, pool: str = "default", lease: float = 60, capacity: int = 8
) -> UUID:
    """Make a worker whose lease ends in `lease` seconds; a negative number is an expired one."""
    identity = uuid7()
    await connection.execute(
        "INSERT INTO worker (id, pool, capacity, host, pid, lease_expires_at)"
        " VALUES ($1, $2, $3, 'host', 1, now() + $4 * interval '1 second')",
        identity,
        pool,
        capacity,
        lease,
    )
    return identity


async def make_execution(  # noqa: PLR0913 - the columns that tests ask for, each with its own name
    connection: Connection[Any],
    *,
    status: Status = Status.REQUESTED,
    action: str = "job",
    identity: UUID | None = None,
    pool: str = "default",
    priority: int = 0,
    params: dict[str, Any] | None = None,
    result: object = None,
    tags: tuple[str, ...] = (),
    worker: UUID | None = None,
) -> UUID:
    """Make an execution that went the shortest legal way to `status`; returns its id.

    What is requested waits for a time, an hour from now. What runs or ran belongs to `worker`, a new one unless given.
    """
    path = PATHS[status]
    ran = (Status.RUNNING, Owner.WORKER) in path
    if ran and worker is None:
        worker = await make_worker(connection, pool=pool)
    identity = identity or uuid7()
    async with connection.transaction():
        await connection.execute(
            _INSERT,
            identity,
            str(status),
            int(len(path) > 1 and path[1][0] is Status.SCHEDULED),
            len(path),
            action,
            pool,
            priority,
            worker,
            json.dumps(params or {}),
            json.dumps(list(tags)),
            None if result is None else json.dumps(result),
            _error(status),
            ran,
            status in TERMINAL,
        )
        await _make_history(connection, identity, status, worker)
        await _make_companions(connection, identity, status, pool, worker if ran else None)
    return identity


def _error(status: Status) -> str | None:
    if status not in (Status.FAILED, Status.TIMED_OUT, Status.ABANDONED):
        return None
    return json.dumps({"class": str(status), "message": "made by a test"})


async def _make_history(connection: Connection[Any], identity: UUID, status: Status, worker: UUID | None) -> None:
    source: Status | None = None
    for move, (target, owner) in enumerate(PATHS[status], start=1):
        await connection.execute(
            "INSERT INTO execution_transition (execution_id, move, source, target, attempt, epoch, actor)"
            " VALUES ($1, $2, $3::text::status, $4::text::status, $5, 1, $6)",
            identity,
            move,
            source,
            target,
            int(move > 1 and status is not Status.CANCELLED),
            EXECUTOR if owner is Owner.EXECUTOR else f"/worker/{worker}",
        )
        source = target


async def _make_companions(
    connection: Connection[Any], identity: UUID, status: Status, pool: str, worker: UUID | None
) -> None:
    """Make the rows that stand beside such an execution: in flight, its timer, its attempt."""
    if status is Status.REQUESTED:
        await connection.execute(
            "INSERT INTO timer (execution_id, kind, due) VALUES ($1, 'enter', now() + interval '1 hour')", identity
        )
    elif status not in TERMINAL:
        await connection.execute(
            "INSERT INTO in_flight (execution_id, pool, attempt, worker_id) VALUES ($1, $2, 1, $3)",
            identity,
            pool,
            worker,
        )
    elif worker is not None and status is not Status.ABANDONED:
        await connection.execute(
            "INSERT INTO execution_attempt (execution_id, attempt, outcome, worker_id, started_at)"
            " VALUES ($1, 1, $2, $3, now())",
            identity,
            str(status),
            worker,
        )


async def end_execution(
    connection: Connection[Any], identity: UUID, status: Status = Status.COMPLETED, *, result: object = None
) -> None:
    """Do what a worker does: claim a scheduled execution and end it as `status`."""
    worker = await make_worker(connection)
    text = None if result is None else json.dumps(result)
    async with connection.transaction():
        await connection.execute(_MOVE, identity, "scheduled", "running", worker, None)
        await connection.execute(_MOVE, identity, "running", str(status), worker, text)
        await connection.execute(
            "INSERT INTO execution_attempt (execution_id, attempt, outcome, worker_id, started_at)"
            " SELECT id, attempt, $2, $3, now() FROM execution WHERE id = $1",
            identity,
            str(status),
            worker,
        )
