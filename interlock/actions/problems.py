"""What is wrong with a definition, in words for the person who wrote it. Decides nothing: it translates.

A problem names the field by its path, what is wrong and what to write instead, with the nearest known word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args, get_origin

from interlock.contract.definitions import RETRIABLE, Action, Http, Retry, Timeouts
from interlock.contract.keys import Key
from interlock.contract.suggestions import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]

_MODELS: dict[Path, type[BaseModel]] = {
    (): Action,
    ("http",): Http,
    ("retry",): Retry,
    ("timeout",): Timeouts,
    ("keys",): Key,
}
"""What a mapping at each path describes; the places of items are left out of a path."""
_EXAMPLES = {
    "action": "give the action a name, such as `action: checksum`",
    "name": "give the key a name, such as `name: customer/{{ params.customer }}`",
    "url": "give the address, such as `url: https://example.com/`",
}
_LONGEST_EXCERPT = 80


class Problem(NamedTuple):
    """One thing to repair: the path of the field, from the definition's top, and what to do about it."""

    path: Path
    message: str

    def __str__(self) -> str:
        """Return `path: message`, or the message alone for the definition as a whole."""
        return f"{written(self.path)}: {self.message}" if self.path else self.message


def written(path: Path) -> str:
    """Return a path as people write it: `http.headers.accept`, `command[2]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def excerpt(value: object) -> str:
    """Return a short look at a value: its repr, cut to 80 characters."""
    # A cut before the repr keeps a value of megabytes from being spelled out only to be thrown away.
    text = repr(value[: _LONGEST_EXCERPT + 1]) if isinstance(value, str | list | tuple) else repr(value)
    return text if len(text) <= _LONGEST_EXCERPT else text[:_LONGEST_EXCERPT] + "…"


def translate(error: ValidationError, raw: object) -> list[Problem]:
    """Return the problems behind `error`, which met `raw`, the definition as it was written."""
    problems = []
    for detail in error.errors(include_url=False):
        path = _existing(detail["loc"], raw) if detail["type"] not in {"extra_forbidden", "missing"} else detail["loc"]
        describe = _DESCRIBED.get(detail["type"], _plain)
        problems.append(Problem(path, describe(detail)))
    # A list whose item was refused is reported as too short as well: that is an echo, not a second problem.
    echoes = {p.path[:-1] for p in problems if p.path and isinstance(p.path[-1], int)}
    return [problem for problem in problems if not (problem.path in echoes and "at least" in problem.message)]


def _existing(path: Path, raw: object) -> Path:
    """Return the part of `path` that is really in `raw`: pydantic adds the names of types it tried."""
    found: list[str | int] = []
    for part in path:
        is_item = isinstance(raw, list | tuple) and isinstance(part, int) and part < len(raw)
        if not (is_item or (isinstance(raw, dict) and part in raw)):
            break
        raw = raw[part]  # type: ignore[index]
        found.append(part)
    return tuple(found)


def _plain(detail: ErrorDetails) -> str:
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}; found {excerpt(detail['input'])}"


def _own(detail: ErrorDetails) -> str:
    return str(detail["ctx"]["error"])


def _unknown(detail: ErrorDetails) -> str:
    *parent, name = detail["loc"]
    known = tuple(_model(tuple(parent)).model_fields)
    return "unknown field" + (did_you_mean(str(name), known) or f"; the known ones are {', '.join(known)}")


def _model(path: Path) -> type[BaseModel]:
    return _MODELS[tuple(part for part in path if isinstance(part, str))]


def _missing(detail: ErrorDetails) -> str:
    return "is missing; " + _EXAMPLES.get(str(detail["loc"][-1]), "add it")


def _choice(detail: ErrorDetails) -> str:
    choices = _choices(detail["loc"])
    found = detail["input"]
    hint = did_you_mean(found, choices) if isinstance(found, str) else ""
    return f"{excerpt(found)} is not one of {', '.join(choices)}{hint}"


def _choices(path: Path) -> tuple[str, ...]:
    if path[:2] == ("retry", "on"):
        return tuple(sorted(RETRIABLE))
    annotation = _model(path[:-1]).model_fields[str(path[-1])].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _text(detail: ErrorDetails) -> str:
    found = detail["input"]
    if isinstance(found, bool | int | float):
        return f'must be a text, found {excerpt(found)}; put it in quotes: "{str(found)[:40]}"'
    if isinstance(found, dict):
        return "must be a text, found a mapping; a value that begins with {{ needs quotes around it"
    return f"must be a text, found {excerpt(found)}"


def _list(detail: ErrorDetails) -> str:
    if detail["loc"] == ("command",):
        return 'must be a list, such as [program, "first argument"]; no shell takes a line apart'
    return f"must be a list, found {excerpt(detail['input'])}"


def _too_many(detail: ErrorDetails) -> str:
    most, found = detail["ctx"]["max_length"], detail["ctx"]["actual_length"]
    return f"has {found} items, at most {most} are allowed; leave some out"


def _mapping(detail: ErrorDetails) -> str:
    return f"must be a mapping of names to values, found {excerpt(detail['input'])}"


def _whole(detail: ErrorDetails) -> str:
    return f"must be a whole number, found {excerpt(detail['input'])}"


_DESCRIBED: dict[str, Callable[[ErrorDetails], str]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "value_error": _own,
    "literal_error": _choice,
    "enum": _choice,
    "string_type": _text,
    "tuple_type": _list,
    "frozen_set_type": _list,
    "too_long": _too_many,
    "dict_type": _mapping,
    "model_type": _mapping,
    "model_attributes_type": _mapping,
    "int_type": _whole,
}


def unknown_name(kind: str, name: str, known: tuple[str, ...]) -> str:
    """Return `unknown <kind> "name"` with the nearest known one, or with all of them when none is near."""
    hint = did_you_mean(name, known) if nearest(name, known) else f"; the known ones are {', '.join(known) or 'none'}"
    return f'unknown {kind} "{name[:_LONGEST_EXCERPT]}"{hint}'
