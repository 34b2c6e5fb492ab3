"""What all definitions have in common: one canonical text, its checksum, and the form that is stored. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

from interlock.contract.canonical import canonical_json, checksum
from interlock.contract.keys import Part

if TYPE_CHECKING:
    from pydantic import JsonValue


def _plain(value: object) -> JsonValue:
    """Return a dumped value as JSON. A set has no order of its own and gets one, so that it has one text."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, frozenset):
        return [_plain(item) for item in sorted(value)]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value  # type: ignore[return-value]


class Stored(Part):
    """A definition as a whole, with the forms in which it is compared and kept."""

    def content(self) -> dict[str, JsonValue]:
        """Return this definition as a JSON object, fields at their default left out."""
        # Not in pydantic's JSON mode, where a set has become a list in no order, and nobody knows that it was one.
        dumped = self.model_dump(exclude_defaults=True, by_alias=True)
        return {name: _plain(value) for name, value in dumped.items()}

    def canonical(self) -> str:
        """Return the one JSON text of this definition: names sorted, fields at their default left out."""
        return canonical_json(self.content())

    def checksum(self) -> str:
        """Return the SHA-256 of `canonical()` in hexadecimal; equal exactly when the definitions mean the same."""
        return checksum(self.canonical())

    def to_stored(self) -> dict[str, JsonValue]:
        """Return the JSON object that `from_stored` reads.

        Defaults are left out, so that an older process can read what a newer one wrote as long as no newer feature is
        used.
        """
        stored: dict[str, JsonValue] = json.loads(self.canonical())
        return stored

    @classmethod
    def from_stored(cls, stored: object) -> Self:
        """Read what `to_stored` wrote: the JSON object, or its text. Raises pydantic.ValidationError if it is not."""
        return cls.model_validate_json(stored) if isinstance(stored, str | bytes) else cls.model_validate(stored)
