"""Finds or makes the lanes in which candidates wait. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlock.adapters.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.acceptance.requests import Candidate, LaneKey
    from interlock.adapters.postgres import Tx

_SQL = Statements("interlock.acceptance")


async def lanes(tx: Tx, candidates: Sequence[Candidate]) -> dict[tuple[tuple[LaneKey, ...], int], int]:
    """The lanes of these candidates by keys and priority, made where they are missing. Runs before any other lock."""
    wanted = list(dict.fromkeys((c.keys, c.priority) for c in candidates if c.keys))
    if not wanted:
        return {}
    flat = [
        (number, priority, key.scope, key.name, key.template, *_columns(key))
        for number, (keys, priority) in enumerate(wanted)
        for key in keys
    ]
    rows = await tx.fetch(_SQL["make_lanes"], *(list(column) for column in zip(*flat, strict=True)))
    return {wanted[row["lane"]]: row["lane_id"] for row in rows}


def _columns(key: LaneKey) -> tuple[object, ...]:
    names = ("lim", "cap", "cap_policy", "rate_every", "rate_burst")
    if key.bounds is None:
        return (None,) * len(names)
    columns = key.bounds.columns()
    return tuple(columns[name] for name in names)
