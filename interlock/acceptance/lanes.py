"""Finds or makes the lanes in which candidates wait. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlock.adapters.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.acceptance.candidates import Candidate, LaneKey
    from interlock.adapters.postgres import Tx

_SQL = Statements("interlock.acceptance")


async def lanes(tx: Tx, candidates: Sequence[Candidate]) -> list[int | None]:
    """The lane of each candidate; those that are missing are made. Runs before any other lock."""
    wanted: dict[tuple[tuple[LaneKey, ...], int], int] = {}
    numbers = [wanted.setdefault((c.keys, c.priority), len(wanted)) if c.keys else None for c in candidates]
    if not wanted:
        return numbers
    flat = [
        (number, priority, key.scope, key.name, key.template, *_columns(key))
        for number, (keys, priority) in enumerate(wanted)
        for key in keys
    ]
    rows = await tx.fetch(_SQL["make_lanes"], *(list(column) for column in zip(*flat, strict=True)))
    made = {row["lane"]: row["lane_id"] for row in rows}
    return [None if number is None else made[number] for number in numbers]


def _columns(key: LaneKey) -> tuple[object, ...]:
    names = ("lim", "cap", "cap_policy", "rate_every", "rate_burst")
    if key.bounds is None:
        return (None,) * len(names)
    columns = key.bounds.columns()
    return tuple(columns[name] for name in names)
