"""Runs scenarios one after another, on a private stack or beside a user's own work, and keeps the logs of what failed.

A scenario that failed leaves nothing to the next: that one gets an empty stage.
"""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chaos import batch_kinds, flavours, stage, trial
from chaos.figures import Verdict
from chaos.naive.trial import compare
from chaos.scenarios import broker, database, input, messages, processes, together  # noqa: A004 - a module of ours
from interlock.contract.errors import Misconfigured
from interlock.contract.suggestions import did_you_mean
from interlock.local.stack import Stack, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from chaos.stage import Stage
    from chaos.trial import Scenario

SCENARIOS: Final = {
    each.name: each for module in (processes, messages, broker, database, input, together) for each in module.SCENARIOS
}
EXECUTIONS: Final = 1300
SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run: names of scenarios (all, if none), the seed, and how much of what for each."""

    names: tuple[str, ...] = ()
    seed: int = 0
    executions: int = EXECUTIONS
    seconds: float = SECONDS
    naive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The verdicts, those on the toy, and where logs are kept if one was not good."""

    verdicts: list[Verdict]
    naive: list[Verdict] = field(default_factory=list)
    logs: Path | None = None


def chosen(names: Sequence[str], *, harmless: bool) -> list[Scenario]:
    """Return the scenarios called so, or all. Raises Misconfigured for what there is not, or may not be run there."""
    for name in names:
        if name not in SCENARIOS:
            raise Misconfigured(f"no scenario is called {name!r}{did_you_mean(name, SCENARIOS)}: `--list` shows them")
        if harmless and not SCENARIOS[name].harmless:
            raise Misconfigured(f"{name} breaks servers, and is only for a private stack: leave out --against")
    found = [SCENARIOS[name] for name in names] or list(SCENARIOS.values())
    return [scenario for scenario in found if scenario.harmless or not harmless]


async def on_private_stack(options: Options, state: Path) -> Outcome:
    """Run scenarios on servers of our own, and the toy after them where that is wanted."""
    async with Stack(state, listeners=(stage.LISTENER,)) as stack:
        outcome = await _all(options, chosen(options.names, harmless=False), lambda: stage.private(stack), stack.logs)
        if not options.naive:
            return outcome
        say("and now the original flow, as a toy, for comparison")
        return replace(outcome, naive=await compare(stack, options.seed, options.executions // 2, options.seconds / 2))


async def beside(options: Options, database_url: str, amqp_url: str, prefix: str) -> Outcome:
    """Run the harmless scenarios on a user's deployment, whose executors must be running."""
    logs = Path(tempfile.mkdtemp(prefix="interlock-chaos-logs-"))
    try:
        scenarios = chosen(options.names, harmless=True)
        return await _all(options, scenarios, lambda: stage.against(database_url, amqp_url, prefix, logs), logs)
    finally:
        shutil.rmtree(logs, ignore_errors=True)


def quiet() -> None:
    """Keep the libraries from telling on the terminal of every connection that is lost: that is the purpose."""
    for name in ("aio_pika", "aiormq", "asyncpg"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


async def _all(
    options: Options,
    scenarios: Sequence[Scenario],
    staged: Callable[[], AbstractAsyncContextManager[Stage]],
    logs: Path,
) -> Outcome:
    quiet()
    verdicts: list[Verdict] = []
    kept: Path | None = None
    left = list(scenarios)
    while left:
        async with AsyncExitStack() as undo:
            here = await undo.enter_async_context(staged())
            tasks = await undo.enter_async_context(asyncio.TaskGroup())
            keeping = tasks.create_task(here.cast.keep())
            good = True
            while left and good:
                verdicts.append(await _one(left.pop(0), here, options))
                good = verdicts[-1].good
            keeping.cancel()
            await here.cast.stop()
            found = [*here.cast.odd_exits, *here.cast.bugs()]
            if found:
                verdicts[-1] = replace(verdicts[-1], complaints=(*verdicts[-1].complaints, *found))
            if not verdicts[-1].good:
                kept = _keep(logs, kept)
    return Outcome(verdicts=verdicts, logs=kept)


async def _one(scenario: Scenario, here: Stage, options: Options) -> Verdict:
    reason = scenario.impossible(here)
    if reason:
        say(f"{scenario.name}: skipped, {reason}")
        return Verdict(name=scenario.name, skipped=reason)
    say(f"{scenario.name}: {scenario.sentence}")
    seed = random.Random(f"{options.seed}/{scenario.name}")  # noqa: S311 - repeatable, not secret
    names = (here.name, str(here.evidence))
    if scenario.batches:
        plan = batch_kinds.plan(seed, options.executions, *names)
    else:
        plan = flavours.plan(seed, options.executions, *names, scenario.flavours)
    verdict = await trial.run(scenario, here, plan, seed, options.seconds)
    for line in (*verdict.notes, *verdict.broken, *verdict.complaints):
        say(f"  {line}")
    say(f"{scenario.name}: {'good' if verdict.good else 'NOT GOOD'}, {verdict.seconds:.0f} s")
    return verdict


def _keep(logs: Path, kept: Path | None) -> Path:
    """Copy the logs to where they outlive the stack."""
    kept = kept or Path(tempfile.mkdtemp(prefix="interlock-chaos-"))
    shutil.copytree(logs, kept, dirs_exist_ok=True)
    return kept
