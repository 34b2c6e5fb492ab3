"""Concurrency keys: what bounds one, and what it may be called. Pure.

A key is what executions share: an action's limit, a group such as one customer, a named lock. Each execution has at
most MOST_KEYS of them; it goes when all of them have room.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from interlock.contract.canonical import storable_text
from interlock.contract.durations import seconds

MOST_KEYS: Final = 8
MOST_OWN_KEYS: Final = 5
"""In one definition: the action's own key, one of the request and one of a batch come on top."""
RESERVED: Final = {
    "action:": "the limit of an action",
    "batch:": "the max_parallel of a batch",
    "key:": "the concurrency key of a request",
}
"""Beginnings of names that definitions cannot choose, and what they stand for."""
LONGEST_NAME: Final = 255
MOST_BURST: Final = 1_000_000
SMOOTH_SECONDS: Final = 0.01
"""A rate without a burst lets through together what falls into this time: clocks and timers are not finer."""

_RATE = re.compile(r"(?P<count>[1-9][0-9]{0,6}) ?/ ?(?P<period>[0-9.]* ?(?:ms|s|m|h|d))", re.ASCII)


def rate_seconds(text: str) -> float:
    """Return the seconds between two admissions at a rate such as `10/s` or `100/5m`.

    Raises ValueError, with what to write instead.
    """
    written = _RATE.fullmatch(text.strip())
    if written is None:
        raise ValueError(f'"{text[:40]}" is not a rate; write a number per time: 10/s, 100/m or 5/10s')
    period = written["period"].strip()
    every = seconds(period if period[0].isdigit() else f"1{period}") / int(written["count"])
    if every == 0:
        raise ValueError(f'"{text[:40]}" is not a rate; the time cannot be zero')
    return every


def _rate(text: str) -> str:
    rate_seconds(text)
    return text.strip()


def key_name(text: str) -> str:
    """Return `text` if a definition may call a key so; raises ValueError, with what to do instead."""
    if not text.strip():
        raise ValueError("a key's name cannot be empty or blank")
    if len(text) > LONGEST_NAME:
        raise ValueError(f"a key's name has 1 to {LONGEST_NAME} characters, this one {len(text)}")
    if not storable_text(text).isprintable():
        raise ValueError("a key's name is one printable line; leave out line breaks and control characters")
    for beginning, meaning in RESERVED.items():
        if text.startswith(beginning):
            raise ValueError(f'a key cannot begin with "{beginning}", which is {meaning}; choose another name')
    return text


class Part(BaseModel):
    """A part of a definition: frozen, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Bounds(Part):
    """What bounds a key.

    `limit`: how many may hold a slot at the same time (0 admits none, None is no limit). `rate`: how many are admitted
    per time, at most `burst` of them at once. `cap`: how many may wait; `cap_policy`: whether the newest is refused or
    the oldest of its lane gives way when more would.
    """

    limit: int | None = Field(default=None, ge=0, le=1_000_000, strict=True)
    rate: Annotated[str, AfterValidator(_rate)] | None = None
    burst: int | None = Field(default=None, ge=1, le=MOST_BURST, strict=True)
    cap: int | None = Field(default=None, ge=0, le=1_000_000_000, strict=True)
    cap_policy: Literal["reject", "drop_oldest"] = "reject"

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.burst is not None and self.rate is None:
            raise ValueError("burst is how many a rate lets through at once; give the rate, too, such as `rate: 10/s`")
        if self.cap is None and self.cap_policy != "reject":
            raise ValueError("cap_policy says what happens beyond a cap; give the cap, too, such as `cap: 100`")
        return self

    def columns(self) -> dict[str, JsonValue]:
        """Return the bounds as columns of the table `queue`, by name."""
        every = None if self.rate is None else rate_seconds(self.rate)
        burst = self.burst or (1 if every is None else min(MOST_BURST, max(1, math.ceil(SMOOTH_SECONDS / every))))
        return {
            "lim": self.limit,
            "cap": self.cap,
            "cap_policy": self.cap_policy,
            "rate_every": every,
            "rate_burst": burst,
        }


class Key(Bounds):
    """A key that executions of an action have beside the action's own. `name` is a template over `params`.

    The same name in several actions is one key: a named lock.
    """

    name: Annotated[str, AfterValidator(key_name)]
