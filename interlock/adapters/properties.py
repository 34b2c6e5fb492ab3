"""Reads the properties of any message, also of one whose sender broke the protocol's encoding. Judges none of them.

The AMQP library raises on a text that is not UTF-8 or a time beyond the calendar, which ends the connection; the broker
then delivers the message to the next one. One such message would stop every consumer for ever. Here such a value is
replaced, so that the message is read, judged and parked like any other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pamqp import decode

if TYPE_CHECKING:
    from collections.abc import Callable


def read_any_properties() -> None:
    """Make the library's decoders of short strings, times and tables lenient, for this process; again does nothing."""
    lenient: dict[str, Callable[[bytes], tuple[int, Any]]] = {
        "shortstr": _short_string,
        "timestamp": _timestamp,
        "table": _table,
    }
    decode.METHODS.update(lenient)


def _short_string(value: bytes) -> tuple[int, str]:
    size = value[0]
    return size + 1, value[1 : size + 1].decode("utf-8", "replace")


def _timestamp(value: bytes) -> tuple[int, datetime]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, datetime.fromtimestamp(0, UTC)


def _table(value: bytes) -> tuple[int, dict[str, Any]]:
    try:
        return decode.field_table(value)
    except (ValueError, OverflowError, OSError):
        return 4 + int.from_bytes(value[:4], "big"), {}
