"""Parameters as they are typed: `name=text`, coerced by the action's schema, and `name:=json`. Pure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from interlock.contract.errors import InvalidParams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue


def read(whole: str | None, pairs: Sequence[str], schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the parameters that `--params` (JSON, or @file) and `-p` pairs give; a pair wins.

    Raises InvalidParams for what cannot be read. Whether they fit the schema is judged elsewhere.
    """
    params = _whole(whole) if whole is not None else {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.removesuffix(":"):
            raise InvalidParams(f"-p {pair!r}: write name=text, or name:=json")
        if name.endswith(":"):
            params[name[:-1]] = _json(text, f"-p {pair}")
        else:
            params[name] = _coerced(text, _types(schema, name))
    return params


def _whole(text: str) -> dict[str, JsonValue]:
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidParams(f"--params {text}: cannot be read: {error}") from error
    found = _json(text, "--params")
    if not isinstance(found, dict):
        raise InvalidParams('--params: parameters are a JSON object, such as \'{"path": "/etc/hosts"}\'')
    return found


def _json(text: str, where: str) -> JsonValue:
    try:
        found: JsonValue = json.loads(text)
    except ValueError as error:
        raise InvalidParams(f"{where}: not JSON: {error}") from error
    return found


def _types(schema: Mapping[str, JsonValue], name: str) -> frozenset[str]:
    """Return the types that the schema gives a parameter; none if it gives none, or only by a reference."""
    declared = schema.get("properties")
    described = declared.get(name) if isinstance(declared, dict) else None
    types = described.get("type") if isinstance(described, dict) else None
    return frozenset(str(each) for each in (types if isinstance(types, list) else [types] if types else []))


def _coerced(text: str, types: frozenset[str]) -> JsonValue:
    """Read the text as JSON where the schema wants anything but a text; what is not JSON stays one, to be refused."""
    if not types or "string" in types:
        return text
    try:
        found: JsonValue = json.loads(text)
    except ValueError:
        return text
    return found
