"""What a worker and its warm processes say to each other: JSON objects, each behind its length, and outcomes as such.

Pure; owns no socket. Nothing is pickled: what comes from a process that users' code ran in is data, and bounded.
"""

from __future__ import annotations

import struct
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

import orjson

from interlock.contract.status import Status
from worker.outcome import Failure, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST: Final = 8 * 1024 * 1024
"""Bytes of one frame: parameters and results are at most 1 MiB each, and quoting at most doubles them."""
_LENGTH: Final = struct.Struct("!I")


class TooLarge(Exception):
    """A frame that the other side would not have sent: its bytes are no frames."""


def frame(value: dict[str, Any]) -> bytes:
    """Return one object as it is sent."""
    body = orjson.dumps(value)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts what was received into objects."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Give the objects that are whole with these bytes. Raises TooLarge, and ValueError for what is no JSON."""
        self._data += data
        while len(self._data) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data)
            if length > LARGEST:
                raise TooLarge(f"a frame of {length:,} bytes")
            end = _LENGTH.size + length
            if len(self._data) < end:
                return
            body = bytes(self._data[_LENGTH.size : end])
            del self._data[:end]
            yield orjson.loads(body)


def told_of(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as an object; its result goes as the text that is stored."""
    told = {each.name: getattr(outcome, each.name) for each in fields(Outcome) if each.name != "result"}
    return {**told, "failure": None if outcome.failure is None else asdict(outcome.failure)}


def outcome_of(told: dict[str, Any]) -> Outcome:
    """Return the outcome that `told_of` was given."""
    failure, text = told["failure"], told["result_json"]
    if failure is not None:
        failure = Failure(**{**failure, "kinds": tuple(failure["kinds"])})
    result = None if text is None else orjson.loads(text)
    return Outcome(**{**told, "status": Status(told["status"]), "result": result, "failure": failure})
