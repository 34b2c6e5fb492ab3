"""JSON as strictly as a message must hold it: UTF-8, each name of an object once, not nested too deep. Pure."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

import orjson

from interlock.contract.errors import Malformed

MAX_DEPTH = 200
_NESTING = (dict, list)


def parse(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return what the text says. Raises Malformed: `malformed_json` or `duplicate_names`."""
    try:
        document = orjson.loads(body)
        # Written again it is the same, as with all that is written by us: so no name stood twice in an object.
        if orjson.dumps(document) == body:
            return document
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass  # The reader below is as strict, has other bounds, and says what is wrong.
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is not JSON in UTF-8: {error}", "malformed_json") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise Malformed(f"the name {twice!r} stands twice in one object: send each name once", "duplicate_names")
    return found


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"{name} is not JSON", "malformed_json")


def too_deep(level: list[Any], most: int = MAX_DEPTH) -> bool:
    """Whether any of these values is nested in more than `most` levels, itself included.

    By levels rather than by recursion: what is read here must also be written again without overflowing.
    """
    for _ in range(most + 1):
        nested = [value for value in level if isinstance(value, _NESTING)]
        if not nested:
            return False
        level = [item for value in nested for item in (value.values() if isinstance(value, dict) else value)]
    return True


def dump(document: object) -> bytes:
    """Return a JSON text of what `parse` gave, without white space; half a character is written as it was read."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
