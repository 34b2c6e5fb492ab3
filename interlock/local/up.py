"""`interlock up`: servers, schema, one executor and one worker in the foreground, until Ctrl-C; data is kept.

Must leave nothing behind: each child is stopped in order, or dies with this process.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Final

import orjson

from interlock.local.children import Child
from interlock.local.daemons import Daemons, inherited
from interlock.local.stack import FILE, Stack, say

if TYPE_CHECKING:
    from pathlib import Path

    from interlock.local.stack import Endpoints

NAME: Final = "up"
CLI: Final = "import sys; from interlock.cli.app import main; sys.exit(main())"


async def up(
    state: Path,
    *,
    database_url: str | None = None,
    amqp_url: str | None = None,
    executors: int = 1,
    workers: int = 1,
    json: bool = False,
) -> None:
    """Run everything until SIGINT or SIGTERM, then stop it: workers, executors, servers. A second signal is now.

    INTERLOCK_ACTIONS and the other settings reach the daemons through the environment. Raises Unavailable if a server
    or a daemon does not start, or if a daemon ends without being asked to. With `json`, one line on stdout tells where
    everything is as soon as it runs.
    """
    ending = _Ending()
    try:
        async with Stack(state, name=NAME, database_url=database_url, amqp_url=amqp_url) as stack:
            await _prepare(stack.endpoints, stack.logs, own_broker=amqp_url is None)
            daemons = Daemons(stack.endpoints, logs=stack.logs, executors=executors, workers=workers)
            ending.daemons = daemons
            async with daemons:
                _announce(stack, daemons)
                if json:
                    _tell(stack, daemons)
                await daemons.watch()
    except asyncio.CancelledError:
        if not ending.asked:
            raise
        ending.task.uncancel()
        say("stopped")


class _Ending:
    """What signals do: the first cancels, the second also ends the daemons that are still draining."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("up() runs in a task")
        self.task = task
        self.asked = False
        self.daemons: Daemons | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._obey)

    def _obey(self) -> None:
        if not self.asked:
            self.asked = True
            say("stopping; once more to stop at once")
            self.task.cancel()
        elif self.daemons is not None:
            self.daemons.kill()


async def _prepare(endpoints: Endpoints, logs: Path, *, own_broker: bool) -> None:
    """Bring the schema up to date, on a broker that is not ours the topology too, and register what is defined."""
    env = {
        **inherited(),
        "INTERLOCK_DATABASE_URL": endpoints.database_url,
        "INTERLOCK_AMQP_URL": endpoints.amqp_url,
    }
    commands: list[tuple[str, ...]] = [("migrate",)] if own_broker else [("migrate",), ("broker", "setup")]
    if env.get("INTERLOCK_ACTIONS") or env.get("INTERLOCK_FUNCTIONS"):
        commands.append(("actions", "apply"))
    for words in commands:
        name = "-".join(words)
        child = Child(name, [sys.executable, "-c", CLI, *words], log=logs / f"{name}.log", env=env)
        await child.run(within=120, hint=f"try `interlock {' '.join(words)}` by hand")
        say(f"interlock {' '.join(words)}: done")


def _tell(stack: Stack, daemons: Daemons) -> None:
    running = [
        {"name": daemon.name, "role": daemon.role, "pid": daemon.pid, "url": daemon.url, "log": str(daemon.log)}
        for daemon in (*daemons.executors, *daemons.workers)
    ]
    told = {"daemons": running, "stack": str(stack.folder / FILE), "data": str(stack.logs.parent)}
    sys.stdout.write(orjson.dumps(told).decode() + "\n")
    sys.stdout.flush()


def _announce(stack: Stack, daemons: Daemons) -> None:
    for daemon in (*daemons.executors, *daemons.workers):
        say(f"{daemon.name} is ready: {daemon.url} (log: {daemon.log})")
    say(f"addresses and passwords: {stack.folder / FILE}; data and logs: {stack.logs.parent}; Ctrl-C stops everything")
