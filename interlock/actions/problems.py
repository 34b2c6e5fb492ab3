"""What is wrong with a definition, in words for the person who wrote it. Decides nothing: it translates.

A problem names the field by its path, what is wrong and what to write instead, with the nearest known word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from interlock.contract.batches import PARTITION_RETRIABLE, PartitionRetry
from interlock.contract.definitions import RETRIABLE, Action, Retry
from interlock.contract.suggestions import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]

_EXAMPLES = {
    "action": "give the action a name, such as `action: checksum`",
    "batch": "give the batch a name, such as `batch: nightly`",
    "run": "say what runs each partition, such as `run: {action: checksum}`",
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


def translate(error: ValidationError, raw: object, model: type[BaseModel] = Action) -> list[Problem]:
    """Return the problems behind `error`, which met `raw`, the definition of a `model` as it was written."""
    problems = []
    for detail in error.errors(include_url=False):
        *parent, field = detail["loc"] or ("",)
        if detail["type"] in {"extra_forbidden", "missing"}:
            path = (*_existing(tuple(parent), raw), field)
        else:
            path = _existing(detail["loc"], raw)
        if detail["type"] == "extra_forbidden":
            message = _unknown(str(field), _model(model, tuple(parent)))
        elif detail["type"] in {"literal_error", "enum"}:
            message = _choice(detail, _choices(model, detail["loc"]))
        else:
            message = _DESCRIBED.get(detail["type"], _plain)(detail)
        problems.append(Problem(path, message))
    # A list whose item was refused is reported as too short as well: that is an echo, not a second problem.
    echoes = {p.path[:-1] for p in problems if p.path and isinstance(p.path[-1], int)}
    return [problem for problem in problems if not (problem.path in echoes and "at least" in problem.message)]


def _existing(path: Path, raw: object) -> Path:
    """Return the part of `path` that is really in `raw`: pydantic adds the names of types it tried."""
    found: list[str | int] = []
    for part in path:
        if isinstance(part, int) and isinstance(raw, dict):
            continue  # The one item of a list, which may be written without the list.
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


def _unknown(name: str, model: type[BaseModel]) -> str:
    known = tuple(field.alias or known for known, field in model.model_fields.items())
    return "unknown field" + (did_you_mean(name, known) or f"; the known ones are {', '.join(known)}")


def _model(model: type[BaseModel], path: Path) -> type[BaseModel]:
    """Return what a mapping at `path` below one of `model` describes."""
    for part in path:
        field = model.model_fields.get(str(part))
        below = [each for each in _parts(field.annotation) if isinstance(each, type)] if field else []
        model = next((each for each in below if issubclass(each, BaseModel)), model)
    return model


def _parts(annotation: object) -> Iterator[object]:
    """Walk an annotation: itself, then what stands in its brackets or between its bars."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _missing(detail: ErrorDetails) -> str:
    return "is missing; " + _EXAMPLES.get(str(detail["loc"][-1]), "add it")


def _choice(detail: ErrorDetails, choices: tuple[str, ...]) -> str:
    found = detail["input"]
    hint = did_you_mean(found, choices) if isinstance(found, str) else ""
    return f"{excerpt(found)} is not one of {', '.join(choices)}{hint}"


def _choices(model: type[BaseModel], path: Path) -> tuple[str, ...]:
    *parent, name = (part for part in path if isinstance(part, str))
    holder = _model(model, tuple(parent))
    if issubclass(holder, Retry) and name == "on":
        return tuple(sorted(PARTITION_RETRIABLE if issubclass(holder, PartitionRetry) else RETRIABLE))
    literals = (part for part in _parts(holder.model_fields[name].annotation) if get_origin(part) is Literal)
    return get_args(next(literals, None))


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
    "missing": _missing,
    "value_error": _own,
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
