"""JSON Schemas read as data: what they declare, and what they probably meant to. Validates no parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlock.actions.problems import Path, Problem
from interlock.contract.suggestions import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import JsonValue

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLES = (
    *("additionalProperties", "unevaluatedProperties", "propertyNames", "items", "unevaluatedItems", "contains"),
    *("not", "if", "then", "else", "contentSchema"),
)
_KEYWORDS = frozenset({*_MAPS, *_LISTS, *_SINGLES}) | {
    *("type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"),
    *("maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxContains", "minContains"),
    *("maxProperties", "minProperties", "required", "dependentRequired", "format", "default", "examples"),
    *("contentEncoding", "contentMediaType", "title", "description", "deprecated", "readOnly", "writeOnly"),
    *("$schema", "$id", "$ref", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary", "$comment"),
}
_FORMATS = frozenset(
    {
        *("date-time", "date", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "ipv4", "ipv6"),
        *("uri", "uri-reference", "iri", "iri-reference", "uri-template", "uuid", "json-pointer"),
        *("relative-json-pointer", "regex"),
    }
)
# A schema with one of these may allow names that its own `properties` do not list.
_OPENING = frozenset({"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"})
_MOST_REFERENCES = 16

Node = dict[str, "JsonValue"]


def misspellings(schema: Mapping[str, JsonValue]) -> list[Problem]:
    """Return the keywords, formats and required names of `schema` that look misspelled and so would check nothing.

    A keyword or format that is unknown but like no known one is left alone: the specification allows them.
    """
    problems = []
    for path, node in _nodes(dict(schema), ()):
        problems += [
            Problem((*path, name), f"unknown keyword{did_you_mean(name, _KEYWORDS)}")
            for name in node
            if name not in _KEYWORDS and nearest(name, _KEYWORDS)
        ]
        problems += _misnamed(path, node)
    return problems


def _misnamed(path: Path, node: Node) -> Iterator[Problem]:
    word = node.get("format")
    if isinstance(word, str) and word not in _FORMATS and nearest(word, _FORMATS):
        yield Problem((*path, "format"), f'"{word}" is not a format{did_you_mean(word, _FORMATS)}')
    dialect = node.get("$schema")
    if dialect is not None and str(dialect).rstrip("#") != DIALECT:
        yield Problem((*path, "$schema"), f"only Draft 2020-12 is understood; leave $schema out or write {DIALECT}")
    required, declared = node.get("required"), node.get("properties", {})
    closed = node.get("additionalProperties") is False and not node.keys() & _OPENING
    if closed and isinstance(required, list) and isinstance(declared, dict):
        for index, name in enumerate(required):
            if isinstance(name, str) and name not in declared:
                hint = did_you_mean(name, declared)
                yield Problem((*path, "required", index), f'"{name[:80]}" is required but not in properties{hint}')


def _nodes(node: JsonValue, path: Path) -> Iterator[tuple[Path, Node]]:
    if not isinstance(node, dict):
        return
    yield path, node
    for keyword, below in node.items():
        if keyword in _MAPS and isinstance(below, dict):
            for name, inner in below.items():
                yield from _nodes(inner, (*path, keyword, name))
        elif keyword in _LISTS and isinstance(below, list):
            for index, inner in enumerate(below):
                yield from _nodes(inner, (*path, keyword, index))
        elif keyword in _SINGLES:
            yield from _nodes(below, (*path, keyword))


def undeclared(schema: Mapping[str, JsonValue], names: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
    """Return the first of `names`, steps from the top of the parameters downwards, that `schema` rules out.

    With it come the names that are declared in its place. None when every step may exist, as far as can be seen.
    """
    node = _followed(schema, dict(schema))
    for name in names:
        declared = node.get("properties")
        if not isinstance(declared, dict):
            return (name, ()) if node.get("additionalProperties") is False and not node.keys() & _OPENING else None
        if name in declared:
            node = _followed(schema, declared[name])
            continue
        if node.get("additionalProperties", False) is not False or node.keys() & _OPENING:
            return None
        return name, tuple(sorted(declared))
    return None


def _followed(root: Mapping[str, JsonValue], node: JsonValue) -> Node:
    """Return `node`, or what its reference inside the document leads to; an empty schema when that is unclear."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(node, dict):
            return {}
        reference = node.get("$ref")
        if not isinstance(reference, str) or len(node.keys() - {"description", "title", "default"}) > 1:
            return node
        prefix, *parts = reference.split("/")
        node = dict(root) if prefix == "#" else {}
        for part in parts:
            node = node.get(part) if isinstance(node, dict) else None
    return {}
