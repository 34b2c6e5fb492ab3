"""`interlock demo`: a real job on a real PostgreSQL and a real RabbitMQ, with a worker killed and messages sent twice.

Runs the definitions in `examples/` over the files of the checkout. What is measured, and judged, is next door.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import tempfile
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from interlock.actions import files as definitions
from interlock.adapters.tap import Repeater, Tap
from interlock.client import Client
from interlock.contract.errors import Unavailable
from interlock.local import demo_job
from interlock.local.demo_batch import BatchDemonstration
from interlock.local.demo_measures import Record, measure
from interlock.local.demo_progress import Scene, view
from interlock.local.demo_report import publish
from interlock.local.demo_server import ResultServer
from interlock.local.demo_stage import staged
from interlock.local.demo_traffic import Traffic
from interlock.local.stack import Stack, say
from interlock.settings import Client as Settings
from interlock.settings import load

if TYPE_CHECKING:
    from interlock.local.demo_batch_report import Batch
    from interlock.local.demo_job import Runner
    from interlock.local.demo_report import Outcome
    from interlock.local.demo_stage import Stage

CHECKOUT: Final = Path(__file__).resolve().parents[2]
KILL_AT: Final = 1 / 3
"""The share of all executions that has ended when a worker is killed."""
JOB_SECONDS: Final = 100.0
HOLD_SECONDS: Final = 20.0
"""Until some worker runs something that takes its time."""
SETTLE_SECONDS: Final = 30.0
"""From the last end until every event was heard and every slot came back."""
PERIOD: Final = 0.2


def main(*, json: bool = False, batch: Batch | None = None) -> int:
    """Run the demonstration, or that of a batch; the exit code is its verdict: 0 only if all is as it must be.

    Outside of a checkout, where there are no examples, it says so and returns 2. Raises Unavailable or Misconfigured.
    """
    if not (CHECKOUT / "examples" / "actions").is_dir():
        say("interlock: the demo works on a checkout, and this is an installed copy: run `./dev demo` in a checkout")
        return 2
    try:
        return asyncio.run(_session(batch, as_json=json))
    except KeyboardInterrupt:
        say("stopped")
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


async def _session(batch: Batch | None, *, as_json: bool) -> int:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    settings = load(Settings)
    stack = Stack(
        settings.state or Path(".run"),
        database_url=settings.database_url.get_secret_value() if settings.database_url else None,
        amqp_url=settings.amqp_url.get_secret_value() if settings.amqp_url else None,
    )
    async with stack:
        demonstration = _Demonstration(stack) if batch is None else BatchDemonstration(stack, CHECKOUT, batch)
        outcome = await demonstration.run()
        if not outcome.good:
            kept = tempfile.mkdtemp(prefix="interlock-demo-")
            shutil.copytree(stack.logs, kept, dirs_exist_ok=True)
            say(f"the daemons' logs are kept in {kept}")
    publish(outcome, as_json=as_json)
    return 0 if outcome.good else 1


class _Demonstration:
    """One run, from the empty stage to the outcome."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._traffic = Traffic()
        self._scene = Scene()

    async def run(self) -> Outcome:
        """Set the stage, run the job, let everything come to rest, measure."""
        files = demo_job.files_of(CHECKOUT)
        checksums = await asyncio.to_thread(demo_job.checksums, files)
        async with staged(self._stack, CHECKOUT) as stage, Client.connect(stage.database_url) as client:
            await client.apply_actions(found.content for found in definitions.load(CHECKOUT / "examples" / "actions"))
            async with ResultServer() as server:
                runner = demo_job.Runner(client, server, files)
                seconds = await self._perform(stage, runner)
            # What the daemons say about their end counts as well.
            await stage.daemons.stop()
            record = Record(
                job=runner.job,
                traffic=self._traffic,
                checksums=checksums,
                checksums_after=await asyncio.to_thread(demo_job.checksums, files),
                killed=", ".join(daemon.name for daemon in stage.killed) or "nobody",
                seconds=seconds,
            )
            return await measure(stage, client, record)

    async def _perform(self, stage: Stage, runner: Runner) -> float:
        """Run the job with an ear on the broker, and return how many seconds it took."""
        endpoints = self._stack.endpoints
        ear = Tap(endpoints.client, stage.topology, f"demo-{secrets.token_hex(6)}", self._traffic.hear)
        try:
            async with ear, Repeater(endpoints.worker) as repeater, asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(self._traffic.run(repeater)),
                    tasks.create_task(self._show(stage, runner)),
                    tasks.create_task(stage.watch()),
                ]
                seconds = await self._run_job(stage, runner)
                self._scene.phase = "settling"
                await self._settle(stage, runner)
                for task in beside:
                    task.cancel()
        except ExceptionGroup as failed:
            # One of them failed and the others were cancelled for it: the user is helped by the first cause.
            raise failed.exceptions[0] from None
        return seconds

    async def _run_job(self, stage: Stage, runner: Runner) -> float:
        """Run all waves and kill a worker on the way. What is still open after JOB_SECONDS is left to the verdict."""
        began = monotonic()
        try:
            async with asyncio.timeout(JOB_SECONDS):
                self._scene.phase = "running"
                await runner.start()
                await runner.until_ended(KILL_AT)
                await runner.nap()
                await self._kill_one(stage, runner)
                await runner.until_done()
        except TimeoutError:
            say(f"not done after {JOB_SECONDS:g} s: giving up")
        return monotonic() - began

    async def _kill_one(self, stage: Stage, runner: Runner) -> None:
        """Kill the worker that runs the most naps."""
        deadline = monotonic() + HOLD_SECONDS
        while not (holders := await stage.holders("nap")):
            if monotonic() > deadline:
                raise Unavailable(f"no worker ran a nap within {HOLD_SECONDS:g} s: see {stage.daemons.workers[0].log}")
            await runner.look()
            await asyncio.sleep(PERIOD)
        worker, held = holders[0]
        daemon = await stage.kill(worker)
        say(f"{daemon.name} is killed; it holds {held} naps and whatever else it was just given")

    async def _settle(self, stage: Stage, runner: Runner) -> None:
        """Wait until every repeat was sent and handled, every end was heard and every slot came back."""
        deadline = monotonic() + SETTLE_SECONDS
        while monotonic() < deadline:
            told = self._traffic.completed_events >= len(runner.job.submitted) and self._traffic.quiet
            if told and not await stage.ground.waiting() and not await stage.value("slots_held"):
                return
            await asyncio.sleep(PERIOD)

    async def _show(self, stage: Stage, runner: Runner) -> None:
        """Show what goes on, until cancelled."""
        scene, traffic = self._scene, self._traffic
        looks = [(monotonic(), 0)]
        with view() as shown:
            while True:
                looks = [*looks[-5:], (monotonic(), traffic.heard)]
                seconds, events = (last - first for first, last in zip(looks[0], looks[-1], strict=True))
                scene.rate = events / seconds if seconds else 0.0
                scene.done, scene.total = dict(runner.job.done), dict(runner.job.total)
                scene.events, scene.duplicates = traffic.heard, traffic.injected
                scene.workers = stage.standing()
                shown.show(scene)
                await asyncio.sleep(PERIOD)
