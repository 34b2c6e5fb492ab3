"""How tests run the command line: what a command said, and the fixture's type."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, Protocol

from interlock.cli.app import main

if TYPE_CHECKING:
    import pytest


class Said(NamedTuple):
    """The exit code of one command, and what it wrote."""

    code: int
    out: str
    err: str


class Interlock(Protocol):
    """Runs one command given as words."""

    async def __call__(self, *words: object) -> Said: ...


def interlock_on(url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Interlock:
    """Run commands in this process on a database."""
    monkeypatch.setenv("INTERLOCK_DATABASE_URL", url)

    async def run(*words: object) -> Said:
        # In a thread of its own, as a command has an event loop of its own.
        code = await asyncio.to_thread(main, [str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return run
