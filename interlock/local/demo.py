"""`interlock demo`: a real job on a real PostgreSQL and a real RabbitMQ, with a worker killed and messages sent twice.

Runs the definitions in `examples/` over the files of the checkout, measures what came of it, and judges.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from interlock.actions import files as definitions
from interlock.adapters.postgres import mapped_errors
from interlock.adapters.statements import Statements
from interlock.adapters.tap import Repeater, Tap
from interlock.client import Client
from interlock.contract.errors import Unavailable
from interlock.contract.status import Status
from interlock.local import demo_job
from interlock.local.demo_progress import Scene, view
from interlock.local.demo_report import Figures, Outcome, loud_lines, publish
from interlock.local.demo_server import ResultServer
from interlock.local.demo_stage import staged
from interlock.local.demo_traffic import Traffic
from interlock.local.stack import Stack, say
from interlock.settings import Client as Settings
from interlock.settings import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from interlock.client.doctor import Examination
    from interlock.local.daemons import Daemon
    from interlock.local.demo_progress import View
    from interlock.local.demo_stage import Stage

SQL: Final = Statements("interlock.local")
CHECKOUT: Final = Path(__file__).resolve().parents[2]
LIMIT: Final = 3
KILL_AT: Final = 1 / 3
JOB_SECONDS: Final = 120.0
HOLD_SECONDS: Final = 20.0
"""Until some worker runs something: naps are on their way."""
SETTLE_SECONDS: Final = 30.0
"""Until every event was heard and every slot came back, after the last execution has ended."""
PERIOD: Final = 0.2


def main(*, json: bool = False) -> int:
    """Run the demonstration; the exit code is its verdict: 0 only if every figure is as it must be.

    Outside of a checkout, where there are no examples, it says so and returns 2. Raises Unavailable or Misconfigured.
    """
    if not (CHECKOUT / "examples" / "actions").is_dir():
        say("interlock: the demo runs in a checkout of Interlock, and this is an installed copy: clone it, `./dev demo`")
        return 2
    try:
        return asyncio.run(_session(as_json=json))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM


async def _session(*, as_json: bool) -> int:
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
        outcome = await _Demonstration(stack).run()
        if not outcome.good:
            kept = Path(tempfile.mkdtemp(prefix="interlock-demo-"))
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
        self._killed: Daemon | None = None
        self._held = 0

    async def run(self) -> Outcome:
        """Set up, run the job, take down, measure."""
        files = demo_job.files_of(CHECKOUT)
        before = await asyncio.to_thread(demo_job.checksums, files)
        async with staged(self._stack, CHECKOUT) as stage, Client.connect(stage.database_url) as client:
            await client.apply_actions(found.action for found in definitions.load(CHECKOUT / "examples" / "actions"))
            async with ResultServer() as server:
                runner = demo_job.Runner(client, server, files)
                seconds = await self._play(stage, runner)
                slots = await self._settle(stage, runner.job)
            # Nothing moves any more, and what the daemons say about their end counts as well.
            await stage.daemons.stop()
            examination = await client.examine()
            loud = loud_lines(daemon.log for daemon in stage.daemons.executors)
            unchanged = await stage.unchanged_writes()
            over_limit = await self._value(stage, "over_limit", "checksum", LIMIT)
            unchanged_moves = await self._value(stage, "unchanged_moves")
        after = await asyncio.to_thread(demo_job.checksums, files)
        wrong = demo_job.wrong_results(runner.job, before, after)
        figures = Figures(
            executions=len(runner.job.submitted),
            completed=sum(each.status is Status.COMPLETED for each in runner.job.ended.values()),
            failed=len(runner.job.failed) + len(runner.job.open),
            completed_events=self._traffic.completed_events,
            duplicates_injected=self._traffic.injected,
            unchanged_writes=sum(unchanged.values()) + unchanged_moves,
            warnings=len(loud),
            slots_held=slots,
            over_limit=over_limit,
            wrong_results=len(wrong),
            doctor_violations=examination.violations,
            seconds=round(seconds, 1),
        )
        complaints = (
            *(f"{execution.action} {execution.id} ended {execution.status}: {execution.error}" for execution in runner.job.failed),
            *(f"still open: {identity}" for identity in runner.job.open),
            *(f"announced under several ids: {subject}" for subject in self._traffic.told_twice),
            *(f"{rows} unchanged writes in {table}" for table, rows in unchanged.items()),
            *(f"executor: {line}" for line in loud),
            *(f"wrong result: {line}" for line in wrong),
        )
        return Outcome(figures=figures, complaints=complaints, proof="")
