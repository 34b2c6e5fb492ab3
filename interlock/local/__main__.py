"""`python -m interlock.local [--not-durable] -- COMMAND…`: run a command on private servers and take its exit code.

`--not-durable`: the database never waits for a disk. What is committed survives the death of any process all the same.
The command stays in the foreground of the terminal; the servers end with it, however it or this process ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from interlock.contract.errors import InterlockError, Misconfigured
from interlock.local.children import leashed
from interlock.local.stack import Endpoints, Stack, say
from interlock.settings import Client, load


def main() -> int:
    """Run the command after `--`; 69 where a server cannot be started, 78 for settings nobody understands."""
    command = sys.argv[1:]
    durable = command[:1] != ["--not-durable"]
    if not durable:
        del command[0]
    if command[:1] == ["--"]:
        del command[0]
    if not command:
        say("usage: python -m interlock.local [--not-durable] -- COMMAND…")
        return 2
    try:
        return asyncio.run(_session(command, durable=durable))
    except InterlockError as error:
        say(str(error))
        return 78 if isinstance(error, Misconfigured) else 69
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        # SIGTERM while the servers were starting; they are stopped again by now.
        return 128 + signal.SIGTERM


async def _session(command: list[str], *, durable: bool) -> int:
    settings = load(Client)
    stack = Stack(
        settings.state or Path(".run"),
        database_url=settings.database_url.get_secret_value() if settings.database_url else None,
        amqp_url=settings.amqp_url.get_secret_value() if settings.amqp_url else None,
        durable=durable,
    )
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    async with stack:
        return await _run(command, _environment(stack.endpoints, stack.folder))


def _environment(endpoints: Endpoints, folder: Path) -> dict[str, str]:
    """Return our own environment with the stack's addresses in it."""
    others = {name: value for name, value in os.environ.items() if not name.endswith("_URL_FILE")}
    return {
        **others,
        "INTERLOCK_DATABASE_URL": endpoints.database_url,
        "INTERLOCK_AMQP_URL": endpoints.amqp_url,
        "INTERLOCK_STATE": str(folder),
    }


async def _run(command: list[str], env: dict[str, str]) -> int:
    """Run the command until it ends. A signal's number is told the way shells do, as 128 and more."""
    loop = asyncio.get_running_loop()
    process = _start(command, env)
    # The terminal tells the command as well; what it does about it decides when we end.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, process.terminate)
    code = await asyncio.to_thread(process.wait)
    return 128 - code if code < 0 else code


def _start(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the command in our own process group, so that Ctrl-C and the terminal are its own."""
    return subprocess.Popen(leashed(command, death=signal.SIGTERM), env=env)


if __name__ == "__main__":
    sys.exit(main())
