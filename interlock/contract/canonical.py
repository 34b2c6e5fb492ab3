"""One spelling per JSON value, so that equal content has equal hashes, also after a trip through `jsonb`. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from pydantic import JsonValue

DEEPEST = 64
_LARGEST = 2**63


def storable(value: JsonValue, depth: int = 0) -> JsonValue:
    """Return `value` with whole floats as integers, as `jsonb` would give it back.

    Raises ValueError for what the database cannot hold or give back unchanged: NUL characters, lone surrogates, numbers
    that are not finite or leave 64 bits, more than 64 levels.
    """
    if depth > DEEPEST:
        raise ValueError(f"the value is nested more than {DEEPEST} levels deep")
    if isinstance(value, dict):
        return {storable_text(name): storable(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [storable(item, depth + 1) for item in value]
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, bool) or value is None:
        return value
    if not -_LARGEST <= value < _LARGEST:  # NaN, too, is not; and an integer may be too large to be asked as a float
        raise ValueError("the value holds a number that is not finite or does not fit in 64 bits")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def storable_text(text: str) -> str:
    """Return `text`; raise ValueError if it holds a NUL character or half of a surrogate pair."""
    if text.isascii() and "\0" not in text:
        return text
    if "\0" in text:
        raise ValueError("the text holds a NUL character, which no database text or command can carry; remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f"the text holds half of a character (a lone surrogate) at position {error.start}; remove it"
        raise ValueError(message) from error
    return text


def canonical_json(value: JsonValue) -> str:
    """Return the one JSON text of `value`: names sorted, no white space, whole numbers without a fraction.

    Raises ValueError as `storable` does.
    """
    return orjson.dumps(storable(value), option=orjson.OPT_SORT_KEYS).decode()


def checksum(text: str) -> str:
    """Return the SHA-256 of a canonical text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
