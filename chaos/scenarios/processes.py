"""Faults of processes: killed at a named step or at any moment, and stopped for longer than their lease."""

from __future__ import annotations

import asyncio
import signal
from time import monotonic
from typing import TYPE_CHECKING, Final

from chaos.sender import Sender
from chaos.stage import LEASE
from chaos.trial import Scenario
from interlock.contract.faults import POINTS

if TYPE_CHECKING:
    from chaos.cast import Player
    from chaos.trial import Trial

KILL_SECONDS: Final = 5.0
STEP_SECONDS: Final = 3.0
READY_SECONDS: Final = 20.0
LOOK: Final = 0.1


async def nothing(_trial: Trial) -> None:
    """Let the load run undisturbed: what is broken then is broken without any fault."""


async def kill_random(trial: Trial) -> None:
    """SIGKILL one executor and one worker every five seconds, unless others of the role are not back yet."""
    kills = 0
    while trial.goes_on:
        await trial.pause(trial.seed.uniform(0.5, KILL_SECONDS))
        for group in (trial.stage.cast.executors, trial.stage.cast.workers):
            victim = trial.seed.choice(group) if group else None
            # What is promised is promised while somebody of the role lives.
            if victim is not None and all([await each.daemon.is_ready() for each in group if each is not victim]):
                victim.kill()
                kills += 1
        await trial.pause(KILL_SECONDS / 2)
    trial.notes.append(f"{kills} processes were killed")


async def freeze(trial: Trial) -> None:
    """SIGSTOP a worker for longer than its lease, again and again; its guardian is left running."""
    while trial.goes_on:
        await trial.pause(trial.seed.uniform(0.2, 1.5))
        player = trial.seed.choice(trial.stage.cast.workers)
        if not await player.daemon.is_ready():
            continue  # it has no lease that could end
        pid = player.signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE + 1)
        if pid is not None and player.pid == pid:
            # It was to be killed long ago; the auditor sees what comes of it.
            trial.notes.append(f"{player.name} still had its stopped process {pid} after its lease")
        player.signal(signal.SIGCONT)


async def crash_at_steps(trial: Trial) -> None:
    """Kill an executor and two workers at each named step, with all those armed that they have not been killed at."""
    steps: dict[str, list[str]] = {"executor": [], "worker": []}
    for point in POINTS:
        for role in ("executor", "worker") if point.process == "both" else (point.process,):
            if role in steps:
                steps[role].append(point.name)
    cast = trial.stage.cast
    # One executor is left alone: without any, lost workers are observed for longer.
    victims = {"executor": cast.executors[:1], "worker": cast.workers[:2]}
    async with asyncio.TaskGroup() as beside:
        dying = beside.create_task(_dead_letters(trial))
        async with asyncio.TaskGroup() as tasks:
            for role, names in steps.items():
                mixed = trial.seed.sample(names, len(names))
                for number, player in enumerate(victims[role]):
                    tasks.create_task(_crash_each(trial, player, mixed[number :: len(victims[role])]))
        dying.cancel()


async def _crash_each(trial: Trial, player: Player, names: list[str]) -> None:
    """Start one player again and again until it has crashed at each step; which it did not come to is told."""
    left = names
    while left and trial.goes_on:
        player.faults = ",".join(f"{name}=crash" for name in left)
        player.kill()
        await _crash(player)
        struck = player.struck()
        left = [name for name in left if name not in struck]
    player.faults = ""
    player.kill()
    trial.notes.append(f"{player.name}: crashed at {len(names) - len(left)} of {len(names)} steps, not {left}")


async def _crash(player: Player) -> None:
    """Wait until it has crashed by itself: on its way to be ready, at work, or, when nothing else helps, in a drain."""
    before = player.crashes
    if not (
        await _within(READY_SECONDS, player, before, until_ready=True) or await _within(STEP_SECONDS, player, before)
    ):
        player.daemon.child.send(signal.SIGTERM)
        await _within(STEP_SECONDS, player, before)


async def _within(seconds: float, player: Player, before: int, *, until_ready: bool = False) -> bool:
    """Whether it has crashed by the end of this time; where that is wanted, no longer than until it is ready."""
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        if player.crashes > before:
            return True
        if until_ready and await player.daemon.is_ready():
            return False
        await asyncio.sleep(LOOK)
    return False


async def _dead_letters(trial: Trial) -> None:
    """Put something into the queue of dead letters every second, so that its consumer has steps to crash at."""
    sender = Sender(trial.stage.endpoints.amqp_url)
    body = b"no event at all"
    trial.spoilt.add(body)
    try:
        while True:
            await sender.publish(trial.stage.topology.dead.name, "", body, "text/plain")
            await asyncio.sleep(1)
    finally:
        await sender.close()


SCENARIOS: Final = (
    Scenario(name="calm", sentence="no fault at all", fault=nothing, harmless=True),
    Scenario(
        name="crash-steps",
        sentence="an executor and two workers are killed at every named step",
        fault=crash_at_steps,
        longer=7,
    ),
    Scenario(
        name="kill-random",
        sentence="an executor and a worker are killed every few seconds",
        fault=kill_random,
        harmless=True,
    ),
    Scenario(
        name="freeze",
        sentence="a worker is stopped for longer than its lease, and goes on then",
        fault=freeze,
        harmless=True,
    ),
)
