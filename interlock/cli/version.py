"""`interlock version`."""

from __future__ import annotations

from interlock import __version__
from interlock.cli import output
from interlock.cli.session import Json  # noqa: TC001 - Typer reads the annotation


def version(*, json: Json = False) -> None:
    """Print the version of this program."""
    output.document({"version": __version__}) if json else output.line(f"interlock {__version__}")
