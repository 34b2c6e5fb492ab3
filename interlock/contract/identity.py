"""Ids that follow from what they name, so that whoever makes them twice makes one thing. Pure."""

from __future__ import annotations

import hashlib
from uuid import UUID

_TIME_BYTES = 6
_REST_BYTES = 10


def child_id(parent: UUID, epoch: int, key: str) -> UUID:
    """Return the id of the child that `key` names in this epoch of `parent`: the same for every attempt to make it.

    It has the shape of a UUIDv7: the parent's time, then the SHA-256 of `parent/epoch/key`. The database derives the
    same.
    """
    digest = hashlib.sha256(f"{parent}/{epoch}/{key}".encode()).digest()
    made = bytearray(parent.bytes[:_TIME_BYTES] + digest[:_REST_BYTES])
    made[6] = made[6] & 0x0F | 0x70  # version 7
    made[8] = made[8] & 0x3F | 0x80  # variant 10
    return UUID(bytes=bytes(made))
