"""Ids as people write them: whole, or any unique beginning or end. Pure; asks no database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from uuid import UUID

from interlock.contract.errors import InterlockError

if TYPE_CHECKING:
    from collections.abc import Sequence

WHOLE: Final = 32
SHORTEST: Final = 4
SHOWN: Final = 8
"""Characters that a screen shows of an id: the last ones, as a UUIDv7 begins with the time."""


class UnknownId(InterlockError):
    """No execution has such an id."""


class AmbiguousId(InterlockError):
    """Several executions have such an id; `candidates` holds the first of them."""

    def __init__(self, message: str, candidates: Sequence[UUID]) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)


@dataclass(frozen=True, slots=True)
class Fragment:
    """Part of an id: its hexadecimal digits, without hyphens."""

    digits: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 4 to 32 hexadecimal digits, hyphens anywhere. Raises UnknownId for anything else."""
        digits = text.strip().lower().replace("-", "")
        if re.fullmatch(rf"[0-9a-f]{{{SHORTEST},{WHOLE}}}", digits) is None:
            message = f"{text[:80]!r} is not an id: give it whole, or {SHORTEST} or more of its first or last digits"
            raise UnknownId(message)
        return cls(digits)

    @property
    def whole(self) -> UUID | None:
        """The id, if this is all of one."""
        return UUID(self.digits) if len(self.digits) == WHOLE else None

    @property
    def first(self) -> UUID:
        """The smallest id that begins so."""
        return UUID(self.digits.ljust(WHOLE, "0"))

    @property
    def last(self) -> UUID:
        """The largest id that begins so."""
        return UUID(self.digits.ljust(WHOLE, "f"))

    @property
    def ending(self) -> str:
        """A LIKE pattern for the text of every id that ends so."""
        digits = self.digits.rjust(WHOLE, "_")
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def short(identity: UUID) -> str:
    """The characters of an id that a screen shows."""
    return str(identity)[-SHOWN:]
