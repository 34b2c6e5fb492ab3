"""Ranges of whole numbers, calendar days and points in time, as sequences that hold no item. Knows no batch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from interlock.actions.problems import excerpt
from interlock.actions.rendering import field
from interlock.contract.durations import seconds
from interlock.contract.errors import InvalidParams

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import JsonValue

    from interlock.actions.problems import Path

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?",
    re.ASCII,
)
_KINDS = {int: "a whole number", date: "a date", datetime: "a time"}
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Days:
    first: date
    count: int
    days: int

    def __iter__(self) -> Iterator[str]:
        start = self.first.toordinal()
        return (date.fromordinal(start + step * self.days).isoformat() for step in range(self.count))


@dataclass(frozen=True, slots=True)
class _Times:
    first: datetime
    count: int
    step: timedelta
    zulu: bool

    def __iter__(self) -> Iterator[str]:
        return (self._written(self.first + step * self.step) for step in range(self.count))

    def _written(self, moment: datetime) -> str:
        text = moment.isoformat()
        return text.removesuffix("+00:00") + "Z" if self.zulu else text


def stretch(first: JsonValue, last: JsonValue, step: JsonValue, path: Path) -> Iterable[int | str]:
    """Return what lies between `first` and `last`, both included, `step` apart; may be iterated any number of times.

    Dates (`2026-01-31`) go in whole calendar days. Times have a zone, keep the offset of `first`, and are `step` of
    elapsed time apart. Raises InvalidParams, naming the field below `path`.
    """
    with field(*path, "from"):
        start = _end(first)
    with field(*path, "to"):
        end = _end(last)
    with field(*path):
        if type(start) is not type(end):
            kinds = f"from is {_KINDS[type(start)]} and to is {_KINDS[type(end)]}"
            raise InvalidParams(f"{kinds}; a range goes between two of one kind")
        if end < start:  # type: ignore[operator]  # of one kind, as was just seen
            raise InvalidParams(f"the range goes backwards, from {first} to {last}; exchange the two")
    if isinstance(start, int) and isinstance(end, int):
        with field(*path, "step"):
            return range(start, end + 1, _count(step))
    with field(*path, "step"):
        length = _length(step)
        if isinstance(start, datetime) and isinstance(end, datetime):
            if end > datetime.max.replace(tzinfo=start.tzinfo):
                raise InvalidParams("in the zone of `from`, the range ends beyond the year 9999")
            return _Times(start, (end - start) // length + 1, length, str(first).endswith("Z"))
        if length % _DAY:
            raise InvalidParams(f"dates go in whole days, found {excerpt(step)}; write times for shorter steps")
        return _Days(start, (end - start) // length + 1, length.days)  # type: ignore[arg-type,operator]  # dates


def _end(value: JsonValue) -> int | date | datetime:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        if isinstance(value, str) and _DATE.fullmatch(value):
            return date.fromisoformat(value)
        if isinstance(value, str) and (parts := _TIME.fullmatch(value)):
            if parts["zone"] is None:
                raise InvalidParams(f"{excerpt(value)} has no time zone; put Z (for UTC) or +01:00 behind it")
            return datetime.fromisoformat(value)
    except ValueError as error:
        raise InvalidParams(f"{excerpt(value)} is no date or time that exists: {error}") from error
    raise InvalidParams(
        f"{excerpt(value)} is neither a date (2026-01-31), nor a time with a zone (2026-01-31T06:00:00Z), "
        "nor a whole number"
    )


def _count(step: JsonValue) -> int:
    if not isinstance(step, int) or isinstance(step, bool) or step < 1:
        raise InvalidParams(f"whole numbers go in steps of a whole number above 0, found {excerpt(step)}")
    return step


def _length(step: JsonValue) -> timedelta:
    """Return a step between dates or times, at least a microsecond."""
    if not isinstance(step, str):
        raise InvalidParams(f"between dates and times it is a duration such as 1d or 6h, found {excerpt(step)}")
    try:
        length = timedelta(seconds=seconds(step))
    except ValueError as error:
        raise InvalidParams(str(error)) from error
    if not length:
        raise InvalidParams("a range with a step of 0 never arrives; write a step above 0")
    return length
