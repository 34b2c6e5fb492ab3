"""How tests run the command line: what a command said, and the fixture's type."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Said(NamedTuple):
    """The exit code of one command, and what it wrote."""

    code: int
    out: str
    err: str


class Interlock(Protocol):
    """Runs one command given as words."""

    async def __call__(self, *words: object) -> Said: ...
