"""Durations as people write them (`10s`, `250ms`, `5m`), as seconds. Pure; knows nothing about what is timed."""

from __future__ import annotations

import math
import re

LONGEST = 366 * 86_400.0
"""Seconds. Longer ones are mistakes, and would overflow what databases and timers count in."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_WRITTEN = re.compile(r"(?P<number>[0-9]{1,12}(?:\.[0-9]{1,9})?) ?(?P<unit>ms|s|m|h|d)", re.ASCII)


def seconds(value: object) -> float:
    """Return `value` in seconds: a number of them, or a text with a unit such as `1.5h`.

    Raises ValueError, with what to write instead, for anything else, for what is negative and for more than 366 days.
    """
    if isinstance(value, str):
        written = _WRITTEN.fullmatch(value.strip())
        if written is None:
            raise ValueError(f'"{value[:40]}" is not a duration; write a number with a unit: 250ms, 10s, 5m, 2h or 1d')
        # A division keeps 250ms the float 0.25; a product with 0.001 would not for every number.
        number = float(written["number"])
        length = number / 1000 if written["unit"] == "ms" else number * _UNITS[written["unit"]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        length = float(value) if abs(value) <= LONGEST else math.inf
    else:
        message = f"a {type(value).__name__} is not a duration; write seconds, or a text such as 10s, 5m or 2h"
        raise ValueError(message)  # noqa: TRY004 - pydantic turns ValueError, not TypeError, into a field error
    if math.isnan(length) or not 0 <= length <= LONGEST:
        raise ValueError(f"{value} is out of range; a duration lies between 0 and 366 days")
    return length + 0.0  # never -0.0, which would be written differently
