"""Finds or makes the lanes in which candidates wait. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from interlock.adapters.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.acceptance.candidates import Candidate, LaneKey
    from interlock.adapters.postgres import Tx

_SQL = Statements("interlock.acceptance")
_ARGUMENTS: Final = 10
"""Of `make_lanes`."""


async def lanes(tx: Tx, candidates: Sequence[Candidate]) -> list[int | None]:
    """The lane of each candidate; those that are missing are made. Runs before any other lock."""
    numbers, columns = numbered(candidates)
    made = await tx.fetchval(_SQL["make_lanes"], *columns)
    return [None if number is None else made[number - 1] for number in numbers]


def numbered(candidates: Sequence[Candidate]) -> tuple[list[int | None], list[list[Any]]]:
    """The number of each candidate's lane, from 1, and the arguments of `make_lanes`: one row per key of a lane."""
    wanted: dict[tuple[tuple[LaneKey, ...], int], int] = {}
    numbers = [wanted.setdefault((c.keys, c.priority), len(wanted) + 1) if c.keys else None for c in candidates]
    rows = [
        (number, priority, key.scope, key.name, key.template, *_columns(key))
        for number, (keys, priority) in enumerate(wanted, 1)
        for key in keys
    ]
    return numbers, [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(_ARGUMENTS)]


def _columns(key: LaneKey) -> tuple[object, ...]:
    names = ("lim", "cap", "cap_policy", "rate_every", "rate_burst")
    if key.bounds is None:
        return (None,) * len(names)
    columns = key.bounds.columns()
    return tuple(columns[name] for name in names)
