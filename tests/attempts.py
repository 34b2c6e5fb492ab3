"""Attempts as the worker writes them, by its own statements: for tests of what becomes of their ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from worker import store

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from interlock.contract.status import Status
    from tests.world import World

WORKER = "/worker/test"


async def claim(world: World, *ids: UUID, attempt: int = 1) -> dict[UUID, asyncpg.Record]:
    """Claim one attempt of each."""
    claimed = await store.claim(world.tx, world.hand, [(identity, attempt) for identity in ids], WORKER)
    return {found["id"]: found for found in claimed.claimed}


def ended(identity: UUID, target: str, **fields: Any) -> store.Finish:  # noqa: ANN401 - of a Finish
    """Make the end of an attempt, the first unless told."""
    wanted: dict[str, Any] = dict.fromkeys(("result", "error", "error_class", "error_text", "fingerprint", "exit_code"))
    wanted |= {"outcome": target, "delay": 0.0, "action": "job", "attempt": 1, "started_at": datetime.now(UTC)}
    return store.Finish(id=identity, target=target, **{**wanted, **fields})


async def finish(world: World, identity: UUID, target: str, **fields: Any) -> Status | None:  # noqa: ANN401 - of a Finish
    """End an attempt, the first unless told; returns where the execution stands, None when it did not move."""
    end = ended(identity, target, **fields)
    async with world.tx.transaction():
        moved, _ = await store.finish(world.tx, world.hand, [end], WORKER)
    return moved.get(identity)
