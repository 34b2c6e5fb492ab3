"""YAML 1.2 text as plain values, with the line of every field. Knows YAML's traps; knows nothing of actions.

It builds plain values from YAML's nodes itself, so that no tag constructs an object, no alias multiplies, every
duplicate key is reported rather than the first, and `on:` and `no` stay the words they look like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from interlock.actions.problems import Path, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import JsonValue
    from ruamel.yaml.nodes import Node

_DEEPEST = 64
_PREFIX = "tag:yaml.org,2002:"
_NESTED = "nested too deeply; an action needs a few levels, not more than 64"
_ADVICE = (
    ("character '\\t'", "a tab is used for indentation; indent with spaces"),
    ("mapping values are not allowed", "a value that holds `: ` needs quotes around it"),
    ("found undefined alias", "aliases (*name) are not supported; write the value out"),
    ("alphabetic or numeric character", "a value that begins with * or & needs quotes around it"),
)


class Located(NamedTuple):
    """A problem and the line (from 1) it is on."""

    line: int
    problem: Problem


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document: its value, the line it begins on, and the line of each field by path."""

    value: JsonValue
    lines: dict[Path, int]
    problems: list[Located]

    @property
    def line(self) -> int:
        """Where the document begins."""
        return self.lines[()]

    def line_of(self, path: Path) -> int:
        """Return the line of a field, or of the nearest field around it that was written."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def read_documents(text: str) -> tuple[list[Document], list[Located]]:
    """Return the documents of a YAML text, empty ones left out, and what keeps the rest from being read.

    Problems inside a document, such as a key given twice, are listed in that document.
    """
    documents: list[Document] = []
    try:
        for node in _nodes(text):
            builder = _Builder()
            value = builder.plain(node, ())
            if value is not None:
                documents.append(Document(value=value, lines=builder.lines, problems=builder.problems))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return documents, [Located(mark.line + 1 if mark else 1, Problem((), _yaml_reason(error)))]
    except YAMLError as error:
        # Characters that YAML does not allow at all; the reader knows where, but not in lines.
        position = getattr(error, "position", 0)
        reason = f"character {_code(text, position)} is not allowed in YAML; remove it"
        return documents, [Located(text.count("\n", 0, position) + 1, Problem((), reason))]
    except RecursionError:
        return documents, [Located(1, Problem((), _NESTED))]
    return documents, []


def _nodes(text: str) -> Iterator[Node]:
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False
    yield from yaml.compose_all(text)


def _code(text: str, position: int) -> str:
    return f"U+{ord(text[position]):04X}" if position < len(text) else "at the end"


def _yaml_reason(error: MarkedYAMLError) -> str:
    reason = " ".join(part for part in (error.context, error.problem) if part)
    advice = [advice for symptom, advice in _ADVICE if symptom in reason]
    return f"not valid YAML: {advice[0] if advice else reason}"


@dataclass(kw_only=True)
class _Builder:
    """Turns the nodes of one document into plain values, noting lines and problems on the way."""

    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Located] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def plain(self, node: Node, path: Path) -> JsonValue:
        if id(node) in self._seen:
            # The node knows where it was first written, not where it is used again.
            self.lines.setdefault(path, self.lines[path[:-1]])
            return self._refuse(path, "aliases (*name) are not supported; write the value out")
        self._seen.add(id(node))
        self.lines.setdefault(path, node.start_mark.line + 1)
        if len(path) > _DEEPEST:
            return self._refuse(path[:_DEEPEST], _NESTED)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.plain(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path) -> JsonValue:
        value: dict[str, JsonValue] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            name = self._key(key, path)
            if name is None:
                continue
            if name in value:
                reason = f"given twice, first on line {self.lines[(*path, name)]}; keep one"
                self.problems.append(Located(line, Problem((*path, name), reason)))
                continue
            self.lines[(*path, name)] = line
            value[name] = self.plain(item, (*path, name))
        return value

    def _key(self, key: Node, path: Path) -> str | None:
        kind = str(key.tag).removeprefix(_PREFIX)
        if isinstance(key, ScalarNode) and kind in {"str", "timestamp", "value"}:
            return str(key.value)
        if kind == "merge":
            reason = "merge keys (<<) are not supported; write the fields out"
        elif isinstance(key, ScalarNode):
            reason = f"the key {key.value[:40]} is read as {_article(kind)}; put it in quotes"
        else:
            reason = "a key is a list or a mapping; keys are texts (a value that begins with {{ needs quotes around it)"
        self.problems.append(Located(key.start_mark.line + 1, Problem(path, reason)))
        return None

    def _scalar(self, node: Node, path: Path) -> JsonValue:
        text, kind = str(node.value), str(node.tag).removeprefix(_PREFIX)
        if kind in {"str", "timestamp", "value", "merge"}:
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in {"true", "yes", "on"}
        if kind not in {"int", "float"}:
            return self._refuse(path, f"the tag {str(node.tag)[:40]} is not supported; write a plain value")
        try:
            number = _integer(text) if kind == "int" else float(text.replace("_", "").replace(".inf", "inf"))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            return self._refuse(
                path, f"{text[:40]} is not a number that JSON can hold; put it in quotes if it is a text"
            )
        return number

    def _refuse(self, path: Path, reason: str) -> JsonValue:
        """Note the problem and return what stands in for the value, so that the rest is still read."""
        self.problems.append(Located(self.lines[path], Problem(path, reason)))
        return None


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    bare = digits.lstrip("+-").lower()
    return int(digits, {"0x": 16, "0o": 8, "0b": 2}.get(bare[:2], 10))


def _article(kind: str) -> str:
    names = {"bool": "true or false", "int": "a number", "float": "a number", "null": "null"}
    return names.get(kind, kind)
