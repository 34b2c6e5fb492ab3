"""The health listener over real HTTP."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from interlock.adapters.health import HealthServer, Readiness
from interlock.adapters.lifecycle import Stop
from interlock.adapters.telemetry import LAG_PERIOD, Metrics
from interlock.contract.errors import Misconfigured
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request


@asynccontextmanager
async def serving(server: HealthServer, stop: Stop, host: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    """Serve until the block ends, which closes the server."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(stop))
        await asyncio.wait_for(server.started.wait(), 5)
        async with httpx.AsyncClient(base_url=f"http://{host}:{server.port}", trust_env=False) as client:
            yield client
        server.close()


async def test_a_free_port_is_picked_and_liveness_answered() -> None:
    server = HealthServer("127.0.0.1:0", Readiness(), Metrics())
    async with serving(server, Stop()) as client:
        assert server.port > 0
        answer = await client.get("/livez")
        assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_readiness_names_each_check_that_is_not_ready_and_why() -> None:
    readiness = Readiness("database", "broker")
    async with serving(HealthServer("127.0.0.1:0", readiness, Metrics()), Stop()) as client:
        readiness.set("database", ok=False, reason="no answer for 3 s")
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"ready": False, "problems": {"database": "no answer for 3 s", "broker": "starting"}}

        readiness.set("database", ok=True)
        readiness.set("broker", ok=True)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"ready": True, "problems": {}})


async def test_a_draining_process_lives_but_is_not_ready() -> None:
    stop = Stop()
    async with serving(HealthServer("127.0.0.1:0", Readiness(), Metrics()), stop) as client:
        assert (await client.get("/readyz")).status_code == 200
        stop.request()
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["problems"]) == (503, {"process": "draining"})
        assert (await client.get("/livez")).status_code == 200


async def test_metrics_are_prometheus_text() -> None:
    metrics = Metrics()
    metrics.executions.labels("checksum", "completed").inc(3)
    async with serving(HealthServer("127.0.0.1:0", Readiness(), metrics), Stop()) as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'interlock_executions_total{action="checksum",status="completed"} 3.0' in answer.text.splitlines()


async def test_every_promised_metric_is_there_from_the_start() -> None:
    promised = {
        "behind executions flush_size leases_expired messages outbox_lag_seconds outbox_pending repairs writes_skipped",
        "event_loop_lag_seconds execution_duration_seconds queue_wait_seconds",
    }
    families = {family.name for family in Metrics().registry.collect()}
    assert {f"interlock_{name}" for line in promised for name in line.split()} <= families


async def test_two_processes_worth_of_metrics_do_not_share_a_registry() -> None:
    first, second = Metrics(), Metrics()
    first.leases_expired.inc()
    assert b"interlock_leases_expired_total 1.0" in first.render()[0]
    assert b"interlock_leases_expired_total 0.0" in second.render()[0]


async def test_a_service_adds_routes_of_its_own() -> None:
    async def hello(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    server = HealthServer("127.0.0.1:0", Readiness(), Metrics(), [Route("/hello", hello)])
    async with serving(server, Stop()) as client:
        assert (await client.get("/hello")).text == "hello"


async def test_ipv6_addresses_are_served() -> None:
    async with serving(HealthServer("[::1]:0", Readiness(), Metrics()), Stop(), "[::1]") as client:
        assert (await client.get("/livez")).status_code == 200


async def test_a_port_in_use_is_a_wrong_setting_that_names_the_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(Misconfigured) as refused:
            HealthServer(address, Readiness(), Metrics()).bind()
    assert str(refused.value) == (
        f"INTERLOCK_HTTP: cannot listen on {address}: address already in use; "
        "free it or choose another (example: INTERLOCK_HTTP=127.0.0.1:0 picks a free port)"
    )


async def test_a_cancelled_server_gives_its_port_back() -> None:
    server = HealthServer("127.0.0.1:0", Readiness(), Metrics())
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(server.serve(Stop()))
        await asyncio.wait_for(server.started.wait(), 5)
        task.cancel()
    again = HealthServer(f"127.0.0.1:{server.port}", Readiness(), Metrics())
    again.bind()
    assert again.port == server.port
    again.close()


async def test_a_server_closed_before_it_served_gives_its_port_back_and_never_serves() -> None:
    server = HealthServer("127.0.0.1:0", Readiness(), Metrics())
    server.bind()
    server.close()
    await asyncio.wait_for(server.serve(Stop()), 5)
    assert not server.started.is_set()
    with socket.create_server(("127.0.0.1", server.port)):
        server.close()


async def test_a_loop_that_is_held_up_shows_in_its_lag() -> None:
    metrics = Metrics()
    held = threading.Event()
    async with asyncio.TaskGroup() as tasks:
        probe = tasks.create_task(metrics.probe_loop_lag())
        # The loop stands still beyond the moment the probe is due, until another thread frees it.
        threading.Timer(LAG_PERIOD + 0.3, held.set).start()
        asyncio.get_running_loop().call_soon(held.wait, 5)
        await eventually(lambda: _lag(metrics) >= 0.25)
        probe.cancel()


def _lag(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("interlock_event_loop_lag_seconds") or 0.0
