"""How an attempt ended: the frozen outcome, what may be stored of it, and when two failures are the same one.

Pure: it judges values and writes nothing. Everything in an Outcome fits into PostgreSQL: bounded, valid UTF-8, no NUL.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

import orjson

from interlock.contract.status import Status
from interlock.results import Partial, Skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from interlock.contract.definitions import Retry

RESULT_LIMIT: Final = 1024 * 1024
"""Bytes of a result's JSON text."""
MESSAGE_LIMIT: Final = 4 * 1024
TRACEBACK_LIMIT: Final = 16 * 1024
"""Characters of a failure's message and traceback."""

_DEPTH_LIMIT: Final = 255  # one more than orjson follows
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# An escaped NUL, but not an escaped backslash that happens to be followed by "u0000".
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_VOLATILE: Final = re.compile(
    r"0x[0-9a-f]+|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{7,}\b|\d+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt failed, for people. `fingerprint` is equal for failures that look alike but for their numbers.

    `kinds` are what a retry policy may name it by: its class and everything it is a case of.
    """

    error_class: str
    message: str
    traceback: str | None
    fingerprint: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one attempt ended. `result_json` is the text to store; `result` the value it was made from.

    `retry_after`: in how many seconds the next attempt is asked to begin, where somebody asked. `retry`: what decides
    whether there is one, where that is not the action that was to run: a planning ends as the action that it ran did.
    """

    status: Status
    result: object | None = None
    result_json: str | None = None
    failure: Failure | None = None
    exit_code: int | None = None
    retry_after: float | None = None
    retry: Retry | None = None


class Unstorable(Exception):
    """A result that PostgreSQL cannot hold; `error_class` is what the failure will be called."""

    def __init__(self, error_class: str, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class


def storable(text: str) -> str:
    """Return the text with NUL shown as U+2400 and lone surrogates as U+FFFD: PostgreSQL takes neither."""
    return _SURROGATE.sub("\ufffd", text).replace("\0", "\u2400")


def bounded(text: str, limit: int) -> str:
    """At most `limit` characters of the text: its head, and as much of its tail, where errors have their point."""
    if len(text) <= limit:
        return text
    mark = f"\n… {len(text) - limit:,} characters left out …\n"
    half = (limit - len(mark)) // 2
    return f"{text[:half]}{mark}{text[-half:]}"


def fingerprint(error_class: str, message: str, location: str = "") -> str:
    """16 hex digits of the class, the message without its numbers and ids, and where it was raised."""
    text = "\n".join((error_class, _VOLATILE.sub("#", message), location))
    return hashlib.sha256(storable(text).encode()).hexdigest()[:16]


def failed(
    error_class: str,
    message: str,
    *,
    traceback: str | None = None,
    location: str = "",
    exit_code: int | None = None,
    kinds: Iterable[str] = (),
    retry_after: float | None = None,
) -> Outcome:
    """Build a failed outcome from any text: it is made storable, bounded and fingerprinted here.

    `kinds` are those it has besides its own class; `retry_after` is in seconds.
    """
    error_class, message = storable(error_class), bounded(storable(message), MESSAGE_LIMIT)
    failure = Failure(
        error_class=error_class,
        message=message,
        traceback=None if traceback is None else bounded(storable(traceback), TRACEBACK_LIMIT),
        fingerprint=fingerprint(error_class, message, location),
        kinds=(error_class, *kinds),
    )
    return Outcome(status=Status.FAILED, failure=failure, exit_code=exit_code, retry_after=retry_after)


def encode_result(value: object, name: str = "result") -> str:
    """JSON text of a result, at most 1 MiB. Dates, UUIDs, enums become text. `name` is what messages call it.

    Raises Unstorable with `ResultNotJson`, `ResultNotStorable` (NUL characters, half of a surrogate pair) or
    `ResultTooLarge`; the message says where and what to do.
    """
    if value is None:
        return "null"
    try:
        text = orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    except TypeError as error:
        raise _refusal(value, name, error) from error
    if len(text) > RESULT_LIMIT:
        what = f"the {name} is {len(text):,} bytes of JSON, the limit is {RESULT_LIMIT:,}"
        raise Unstorable("ResultTooLarge", f"{what}: store it elsewhere and return where it is")
    if b"\\u0000" in text and _NUL.search(text):
        raise Unstorable(
            "ResultNotStorable", f"{_place(value, name, _has_nul)} has a NUL character: remove or encode it"
        )
    # orjson writes NaN and the infinities as null, so only a text with a null can hide one.
    if b"null" in text and (place := _find(value, name, _is_not_finite)) is not None:
        raise Unstorable("ResultNotJson", f"{place} is NaN or infinite, which JSON cannot say: return None or a text")
    return text.decode()


def settle(value: object, *, exit_code: int | None = None) -> Outcome:
    """Judge what an action returned: a JSON value, `partial(...)` or `skip(...)`.

    A partial's result is `{"result": …, "items": {counts}, "retry": […]}`, a skip's `{"reason": …}`. What cannot be
    stored makes the outcome failed and says why.
    """
    status = Status.COMPLETED
    if isinstance(value, Partial):
        status = Status.PARTIAL
        retry = {} if value.retry is None else {"retry": list(value.retry)}
        value = {"result": value.result, "items": value.items, **retry}
    elif isinstance(value, Skip):
        status = Status.SKIPPED
        value = {"reason": bounded(storable(str(value.reason)), MESSAGE_LIMIT)}
    try:
        text = encode_result(value)
    except Unstorable as refusal:
        return failed(refusal.error_class, str(refusal), exit_code=exit_code)
    return Outcome(status=status, result=value, result_json=text, exit_code=exit_code)


def _refusal(value: object, name: str, error: TypeError) -> Unstorable:
    if (place := _find(value, name, _has_surrogate)) is not None:
        return Unstorable("ResultNotStorable", f"{place} has half of a surrogate pair: it is not valid Unicode text")
    return Unstorable(
        "ResultNotJson", f"the {name} is not a JSON value: {error}. Return dicts with text keys, lists, …"
    )


def _has_nul(leaf: object) -> bool:
    return isinstance(leaf, str) and "\0" in leaf


def _has_surrogate(leaf: object) -> bool:
    return isinstance(leaf, str) and _SURROGATE.search(leaf) is not None


def _is_not_finite(leaf: object) -> bool:
    return isinstance(leaf, float) and not math.isfinite(leaf)


def _place(value: object, name: str, test: Callable[[object], bool]) -> str:
    return _find(value, name, test) or name


def _find(value: object, name: str, test: Callable[[object], bool]) -> str | None:
    return next((bounded(storable(path), 200) for path, leaf in _leaves(value, name) if test(leaf)), None)


def _leaves(value: object, name: str) -> Iterator[tuple[str, object]]:
    """Each leaf with its path, keys included. Depth first without recursion; what holds itself is cut off."""
    left: list[tuple[str, object, int]] = [(name, value, 0)]
    while left:
        path, item, depth = left.pop()
        if isinstance(item, Enum):
            left.append((path, item.value, depth + 1))
        elif depth > _DEPTH_LIMIT:
            continue
        elif isinstance(item, dict):
            left.extend((f"{path}.{key}", member, depth + 1) for key, member in item.items())
            yield from ((f"a key of {path}", key) for key in item)
        elif isinstance(item, (list, tuple)):
            left.extend((f"{path}[{index}]", member, depth + 1) for index, member in enumerate(item))
        else:
            yield path, item
