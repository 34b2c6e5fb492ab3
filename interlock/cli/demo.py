"""`interlock demo`: the main job on real servers, and the proof."""

from __future__ import annotations

from interlock.cli.session import Json  # noqa: TC001 - Typer reads the annotation
from interlock.local import demo


def run_demo(*, json: Json = False) -> int:
    """Run the main job on a real PostgreSQL and a real RabbitMQ, and prove what came of it."""
    return demo.main(json=json)
