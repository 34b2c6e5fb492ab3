"""What a handler gives back to its consumer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    from asyncpg import Record

    from executor.store import Admission, Parked


@dataclass(slots=True, kw_only=True)
class Outgoing:
    """Messages to publish after the commit, keys to admit on, what must be parked with it, and batches that ended."""

    messages: list[Record] = field(default_factory=list)
    more: list[int] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    ended: list[UUID] = field(default_factory=list)

    def add(self, admission: Admission | Outgoing) -> None:
        """Take over what an admission, or another handler, leaves to be done."""
        self.messages += admission.messages
        self.more += admission.more
