"""Asks before many things change at once. Knows nothing of what changes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from interlock.contract.durations import seconds

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be meant, and change nothing.")]
Older = Annotated[str | None, typer.Option(metavar="DURATION", help="Only what is older: 30s, 10m, 2h, 1d.")]


def agreed(question: str, *, yes: bool) -> bool:
    """Whether it shall be done: said on the command line, or by a person who is asked.

    Raises BadParameter when nobody is there to answer.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"{question} Nobody is there to answer; say --yes, or --dry-run to only look")
    return typer.confirm(question, err=True)


def age(written: str | None) -> float:
    """Return a duration of the command line in seconds; none is 0. Raises BadParameter."""
    try:
        return 0.0 if written is None else seconds(written)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older") from error
