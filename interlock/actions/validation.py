"""JSON Schema for parameters: Draft 2020-12, formats checked, nothing fetched. Knows no action but its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jsonschema_rs

from interlock.actions.problems import Path, Problem, excerpt, written
from interlock.actions.schemas import misspellings
from interlock.contract.canonical import storable
from interlock.contract.errors import InvalidParams
from interlock.contract.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

_MOST_PROBLEMS = 5
_MOST_DESCRIBED = 2_000
_MOST_SMALL = 200
_LARGE = 20
_REFERRED = ("properties", "$defs", "definitions")
_LONGEST_MESSAGE = 200


class Schema:
    """A JSON Schema, compiled once; `check` may be called any number of times, from any thread."""

    def __init__(self, schema: Mapping[str, JsonValue]) -> None:
        """Compile `schema`. Raises ValueError for one that `check_schema` would complain about."""
        self._schema = dict(schema)
        try:
            self._validator = _compile(self._schema)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
            raise ValueError(_refusal(error)) from error

    def check(self, params: Mapping[str, JsonValue]) -> None:
        """Return for parameters that fit; raise InvalidParams naming each field that does not (the first five)."""
        try:
            storable(dict(params))
        except ValueError as error:
            raise InvalidParams(f"params: {error}") from error
        if self._validator.is_valid(params):
            return
        # Sorted, because a schema that went through the database has lost the order it was written in.
        problems = sorted(self._problems(params))
        more = ["and more"] if len(problems) > _MOST_PROBLEMS else []
        raise InvalidParams("; ".join(problems[:_MOST_PROBLEMS] + more))

    def _problems(self, params: Mapping[str, JsonValue]) -> list[str]:
        # The library builds every error at once, at 10 to 30 us each: a list of a million wrong items takes half a
        # minute. Large values are only told right from wrong; everything around them is described as usual.
        if _size(params) <= _MOST_DESCRIBED:
            return [self._describe(error) for error in self._validator.iter_errors(params)]
        declared = self._schema.get("properties")
        declared = declared if isinstance(declared, dict) else {}
        large = {name for name, value in params.items() if _size(value) > _LARGE}
        small = {name: value for name, value in params.items() if name not in large}
        problems = []
        try:
            parts = _compile({name: part for name, part in self._schema.items() if name in _REFERRED})
            problems += [
                f"params.{excerpt(name)[1:-1]}: the value does not fit, and is too large to say where"
                for name in large & declared.keys()
                if not parts.is_valid({name: params[name]})
            ]
            if len(small) <= _MOST_SMALL:
                lenient = self._schema | {"properties": {**declared, **dict.fromkeys(large & declared.keys(), True)}}
                closed = self._schema.get("additionalProperties") is False
                kept = small | dict.fromkeys(large if closed else large & declared.keys())
                problems += [self._describe(error) for error in _compile(lenient).iter_errors(kept)]
        except jsonschema_rs.ValidationError:
            # A reference to a part that was just taken out: what follows is still true.
            problems.clear()
        return problems or ["params: the parameters do not fit the action's schema, and are too large to say where"]

    def _describe(self, error: jsonschema_rs.ValidationError) -> str:
        where = written(("params", *error.instance_path))
        match error.kind:
            case jsonschema_rs.ValidationErrorKind.Required(property=name):
                return f"{where}.{name} is missing"
            case jsonschema_rs.ValidationErrorKind.AdditionalProperties(unexpected=names):
                return self._unknown(where, names, error)
            case jsonschema_rs.ValidationErrorKind.UnevaluatedProperties(unexpected=names):
                return self._unknown(where, names, error)
        message = error.message[:_LONGEST_MESSAGE]
        if isinstance(
            error.kind, jsonschema_rs.ValidationErrorKind.AnyOf | jsonschema_rs.ValidationErrorKind.OneOfNotValid
        ):
            reasons = dict.fromkeys(branch[0].message[:_LONGEST_MESSAGE] for branch in error.kind.context if branch)
            message = "the value fits none of the allowed forms: " + ", or ".join(list(reasons)[:_MOST_PROBLEMS])
        hint = ""
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Enum) and isinstance(error.instance, str):
            hint = did_you_mean(error.instance, [option for option in error.kind.options if isinstance(option, str)])
        return f"{where}: {message} (found {excerpt(error.instance)}){hint}"

    def _unknown(self, where: str, names: list[str], error: jsonschema_rs.ValidationError) -> str:
        known = self._properties_at(error.schema_path[:-1])
        return "; ".join(
            f"{where}.{name[:_LONGEST_MESSAGE]} is unknown"
            + (did_you_mean(name, known) or f", the known ones are {', '.join(known) or 'none'}")
            for name in names[:_MOST_PROBLEMS]
        )

    def _properties_at(self, path: list[str | int]) -> list[str]:
        """Return the names that the schema at `path`, a path inside the whole schema, declares."""
        node: object = self._schema
        for part in path:
            if isinstance(node, dict):
                node = node.get(str(part))
            elif isinstance(node, list) and isinstance(part, int):
                node = node[part]
        declared = node.get("properties") if isinstance(node, dict) else None
        return sorted(declared) if isinstance(declared, dict) else []


def check_schema(schema: Mapping[str, JsonValue]) -> list[Problem]:
    """Return what is wrong with a schema for parameters, each with its path inside the schema; empty when it is good.

    Beyond the specification it refuses what would silently check nothing: misspelled keywords and formats, a
    required property that may never appear, a type that parameters never have, references out of the document.
    """
    try:
        _compile(dict(schema))
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        path: Path = tuple(getattr(error, "instance_path", ()))
        return [*misspellings(schema), Problem(path, _refusal(error))]
    problems = misspellings(schema)
    if schema.get("type", "object") != "object":
        problems.append(Problem(("type",), "parameters are always an object; write `type: object`"))
    return problems


def _size(value: object) -> int:
    """Return how many values `value` is made of, itself included; no further than one past what is described."""
    left, size = [value], 0
    while left and size <= _MOST_DESCRIBED:
        item = left.pop()
        size += 1
        if isinstance(item, dict):
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
    return size


def _compile(schema: dict[str, JsonValue]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True, mask="the value")


def _refusal(error: jsonschema_rs.ValidationError | jsonschema_rs.ReferencingError) -> str:
    message = error.message[:_LONGEST_MESSAGE]
    if "Retrieval is disabled" in message:
        return "a $ref must stay in this schema, such as `#/$defs/name`; nothing is fetched from elsewhere"
    if isinstance(error, jsonschema_rs.ValidationError) and error.instance_path:
        return f"not a valid JSON Schema (Draft 2020-12): {message} (found {excerpt(error.instance)})"
    return f"not a valid JSON Schema (Draft 2020-12): {message}"
