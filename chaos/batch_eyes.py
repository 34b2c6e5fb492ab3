"""Looks at what the batches of a trial made, and at what they tell about themselves; nothing where there are none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chaos.batch_audit import Told
from chaos.batch_kinds import AskedBatch, Child
from interlock.contract.batches import COUNTED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from chaos.eyes import Eyes
    from chaos.flavours import Asked


async def children(eyes: Eyes, asked: Iterable[Asked]) -> list[Child]:
    """Return everything that the batches among these made so far."""
    ids = _batches(asked)
    return [Child(**row) for row in await eyes.fetch("children", ids)] if ids else []


async def told(eyes: Eyes, asked: Iterable[Asked]) -> dict[UUID, Told]:
    """Return the counters of the batches among these, and what their results say."""
    ids = _batches(asked)
    rows = await eyes.fetch("told", ids) if ids else []
    return {
        row["id"]: Told({name: row[name] for name in ("total", *COUNTED)}, json.loads(row["result"] or "{}"))
        for row in rows
    }


def _batches(asked: Iterable[Asked]) -> list[UUID]:
    return [each.id for each in asked if isinstance(each, AskedBatch)]
