"""`interlock up`: everything on this machine, on private servers where no address is given."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from interlock.cli.session import STATE, Json, settings_of
from interlock.local.up import up

Count = Annotated[int, typer.Option(min=1, metavar="N", help="How many processes.")]


def run_up(ctx: typer.Context, *, executors: Count = 1, workers: Count = 1, json: Json = False) -> None:
    """Start servers, schema, executors and workers in the foreground. Ctrl-C stops all; data is kept."""
    settings = settings_of(ctx)
    asyncio.run(
        up(
            settings.state or STATE,
            database_url=settings.database_url.get_secret_value() if settings.database_url else None,
            amqp_url=settings.amqp_url.get_secret_value() if settings.amqp_url else None,
            executors=executors,
            workers=workers,
            json=json,
        )
    )
