"""`interlock broker setup`: exchanges, queues and bindings, with the URL of a user who may declare them."""

from __future__ import annotations

import asyncio

import typer  # noqa: TC002 - Typer reads the annotation
from uuid_utils.compat import uuid7

from interlock.adapters import logs
from interlock.adapters.amqp import Session
from interlock.adapters.health import Readiness
from interlock.cli import output
from interlock.cli.session import Json, settings_of
from interlock.contract.errors import Misconfigured
from interlock.contract.topology import Topology


def setup(ctx: typer.Context, *, json: Json = False) -> None:
    """Declare what is missing; what is there is left as it is. Rights are given by the broker's own means."""
    settings = settings_of(ctx)
    if settings.amqp_url is None:
        raise Misconfigured("INTERLOCK_AMQP_URL: not set; it names the broker and a user who may declare queues")
    logs.configure(settings.log, "warning")
    topology = Topology(settings.prefix)
    asyncio.run(_declare(settings.amqp_url.get_secret_value(), topology))
    names = {
        "exchanges": [exchange.name for exchange in topology.exchanges],
        "queues": [queue.name for queue in topology.queues],
    }
    if json:
        output.document(names)
    else:
        output.line(f"{len(names['exchanges'])} exchanges and {len(names['queues'])} queues are there")


async def _declare(url: str, topology: Topology) -> None:
    session = Session(url, topology, str(uuid7()), Readiness())
    await session.start()
    await session.close()
