"""`interlock demo`: the main job, or a batch, on real servers, and the proof."""

from __future__ import annotations

from typing import Annotated

import typer

from interlock.cli.session import Json  # noqa: TC001 - Typer reads the annotation
from interlock.local import demo
from interlock.local.demo_batch_report import Batch

Users = Annotated[int, typer.Option(min=1, max=1000, help="With --batch: how many users have orders.")]
Days = Annotated[int, typer.Option(min=1, max=1000, help="With --batch: for how many days.")]
AsBatch = Annotated[bool, typer.Option("--batch", help="A batch: totals of users and days, from generated orders.")]


def run_demo(*, batch: AsBatch = False, users: Users = 40, days: Days = 60, json: Json = False) -> int:
    """Run the main job on a real PostgreSQL and a real RabbitMQ, and prove what came of it.

    With --batch it is a batch of one partition for each user and day.
    """
    return demo.main(json=json, batch=Batch(users=users, days=days) if batch else None)
