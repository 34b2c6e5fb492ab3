"""What one run of a command may use up: names, sizes as people write them, ranges. Pure; whoever runs it sets them.

They are limits of processes (setrlimit), so each is what the kernel makes of it; docs/actions.md says what that is.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from interlock.contract.durations import seconds
from interlock.contract.keys import Part

LARGEST: Final = 2**50
"""Bytes. Larger sizes are mistakes; no limit is said by leaving it out."""

_UNITS: Final = {"B": 1, **{f"{name}B": 1000**n for n, name in enumerate("kMGT", 1)}}
_BINARY: Final = {f"{name}iB": 1024**n for n, name in enumerate("KMGT", 1)}
_WRITTEN: Final = re.compile(r"(?P<number>[0-9]{1,15}(?:\.[0-9]{1,9})?) ?(?P<unit>B|[kMGT]B|[KMGT]iB)", re.ASCII)


def size(value: object) -> int:
    """Return `value` in bytes: a number of them, or a text with a unit such as `512MiB` (1024²) or `2GB` (1000³).

    Raises ValueError, with what to write instead, for anything else, for less than 1 byte and for more than 1024 TiB.
    """
    if isinstance(value, str):
        written = _WRITTEN.fullmatch(value.strip())
        if written is None:
            raise ValueError(f'"{value[:40]}" is not a size; write a number with a unit: 64KiB, 512MiB, 2GiB or 1GB')
        found = int(float(written["number"]) * (_UNITS | _BINARY)[written["unit"]])
    elif isinstance(value, int) and not isinstance(value, bool):
        found = value
    else:
        message = f"a {type(value).__name__} is not a size; write bytes, or a text such as 512MiB"
        raise ValueError(message)  # noqa: TRY004 - pydantic turns ValueError, not TypeError, into a field error
    if not 1 <= found <= LARGEST:
        raise ValueError(f"{value} is out of range; a size lies between 1 byte and 1024 TiB")
    return found


def _whole_seconds(value: object) -> float:
    found = seconds(value)
    if found < 1 or found != int(found):
        raise ValueError(f"{value} is not whole seconds; the kernel counts CPU time in them, so write 1s, 90s or 5m")
    return found


Size = Annotated[int, BeforeValidator(size)]
CpuSeconds = Annotated[float, BeforeValidator(_whole_seconds)]


class Resources(Part):
    """What a command may use; None is what the worker itself may. Bytes, seconds, counts.

    `memory`: address space of each of its processes. `cpu`: CPU time of each. `files`: open file descriptors of each.
    `processes`: processes and threads of the worker's user, all together. `file_size`: bytes of each file written.
    """

    memory: Size | None = None
    cpu: CpuSeconds | None = None
    files: int | None = Field(default=None, ge=16, le=1_000_000, strict=True)
    processes: int | None = Field(default=None, ge=1, le=1_000_000, strict=True)
    file_size: Size | None = None
