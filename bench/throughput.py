"""P1, P2, P11: no-ops from accepted to finished and released. Requests by message; nothing is switched off."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.stage import publish, requests, until_finished

if TYPE_CHECKING:
    import asyncpg

    from bench.readings import Reading
    from bench.stage import Cast, Stage
    from interlock.local.stack import Endpoints


async def throughput(stage: Stage, name: str, action: str, count: int, cast: Cast) -> Reading:
    """Publish `count` requests in batches of 500 and wait until every one is finished and its slots are back."""
    bodies = requests(action, count)

    async def work(endpoints: Endpoints, connection: asyncpg.Connection) -> Reading:
        started = time.perf_counter()
        await publish(endpoints.client, bodies)
        looks = await until_finished(connection, count)
        return {"per_second": count / (time.perf_counter() - started), "looks": looks}

    return await stage.measured(name, count, work, cast, published=len(bodies))
