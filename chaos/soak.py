"""`./dev soak`: mixed load in good weather for as long as it is asked, to see that nothing grows with what was done.

Rounds of load follow one another without a pause; each is audited when it has come to rest, while the next ones run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from chaos import flavours, stage
from chaos.actions import RUNS
from chaos.audit import Loss, Material, Move, audit, events, lost
from chaos.figures import RECOVERY_MARGIN, Bars, Figures, Verdict, total
from chaos.flatness import BOUNDS, Judgement, judge, never_above
from chaos.load import Load
from chaos.runner import quiet
from chaos.samples import Samples
from chaos.trial import END_SECONDS, REST_SECONDS, SHOWN
from interlock.contract.errors import InterlockError
from interlock.local.stack import Stack, say
from interlock.settings import Client, load

if TYPE_CHECKING:
    from uuid import UUID

    from chaos.flavours import Asked
    from chaos.stage import Stage

WORKERS: Final = 2
ROUND: Final = 20.0
RATE: Final = 25.0
MINUTES: Final = 60.0
LONGEST_PAUSE: Final = 5.0
"""Seconds between two samples; shorter in a short soak, which would have too few."""
SAMPLES: Final = 60
PAUSE: Final = 0.5
CONNECTIONS: Final = {"interlock-executor": 10, "interlock-worker": 6, "interlock-lease": 1}
"""How many connections each process of a kind may have, by the name they tell PostgreSQL."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a soak."""

    figures: list[Figures] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing was lost, nothing grew and nobody complained."""
        return not self.complaints and all(judgement.good for judgement in self.judgements)


class Soak:
    """One soak on one stage."""

    def __init__(self, here: Stage, seed: random.Random, *, minutes: float, rate: float) -> None:
        self._stage = here
        self._seed = seed
        self._seconds = minutes * 60
        self._rate = rate
        self._samples = Samples(here)
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """Put it under load for its time, let it come to rest, and judge."""
        first_poison = await self._stage.eyes.value("last_poison")
        before = await self._least_tasks()
        async with asyncio.TaskGroup() as beside:
            watching = beside.create_task(self._samples.watch(min(LONGEST_PAUSE, self._seconds / SAMPLES)))
            async with asyncio.TaskGroup() as rounds:
                until = monotonic() + self._seconds
                while monotonic() < until:
                    rounds.create_task(self._round())
                    await asyncio.sleep(min(ROUND, max(0.0, until - monotonic())))
                # What is sampled from here on is not the load's any more.
                watching.cancel()
        await self._judge(before)
        await self._look_back(first_poison)
        await self._samples.close()
        return self.outcome

    async def _round(self) -> None:
        """Ask for one round of everything, wait for its end, and audit it."""
        here = self._stage
        plan = flavours.plan(self._seed, int(self._rate * ROUND), here.name, str(here.evidence))
        load_of_it = Load(
            plan,
            self._seed,
            seconds=ROUND,
            topology=here.topology,
            sender=here.sender,
            client=here.client,
            eyes=here.eyes,
        )
        await load_of_it.run()
        ids = [asked.id for asked in plan]
        deadline = monotonic() + END_SECONDS
        while await here.eyes.value("unended", ids) and monotonic() < deadline:  # noqa: ASYNC110 - rows
            await asyncio.sleep(PAUSE)
        material = await self._at_rest(plan, ids)
        figures = audit(material)
        self.outcome.figures.append(figures)
        self.outcome.complaints += Bars(recovery_p99_s=stage.LEASE + RECOVERY_MARGIN).broken(figures)
        self.outcome.complaints += lost(material, history_of(material))[:SHOWN]
        self._forget(plan)
        done = sum(each.executions for each in self.outcome.figures)
        say(f"{done} executions are audited, {len(self.outcome.complaints)} complaints")

    async def _at_rest(self, plan: list[Asked], ids: list[UUID]) -> Material:
        """Wait until every event of a round was heard; what was not by then is missing."""
        deadline = monotonic() + REST_SECONDS
        eyes = self._stage.eyes
        while True:
            material = Material(
                asked=plan,
                moves=[Move(**row) for row in await eyes.fetch("moves", ids)],
                facts=self._stage.ear.facts,
                contradictions=self._stage.ear.contradictions,
                losses=[Loss(**row) for row in await eyes.fetch("losses", ids)],
                lease=stage.LEASE,
                results_twice=await eyes.value("results", ids),
            )
            if not events(material, history_of(material))[0] or monotonic() > deadline:
                return material
            await asyncio.sleep(PAUSE)

    def _forget(self, plan: list[Asked]) -> None:
        """Keep nothing of a round that was audited: a soak is longer than memory."""
        here, ours = self._stage, {str(asked.id) for asked in plan}
        for identity in [identity for identity, fact in here.ear.facts.items() if fact.subject in ours]:
            del here.ear.facts[identity]
        for name in ours:
            (here.evidence / RUNS / name).unlink(missing_ok=True)

    async def _least_tasks(self) -> dict[str, float]:
        """Return how few tasks each daemon has, over some looks: one that is being counted is none that stays."""
        looks = []
        for _ in range(6):
            await asyncio.sleep(PAUSE)
            looks.append(await self._samples.tasks())
        names = set.intersection(*(set(look) for look in looks))
        return {name: min(look[name] for look in looks) for name in sorted(names)}

    async def _judge(self, before: dict[str, float]) -> None:
        """Hold what was sampled against its bounds, and the tasks at rest against those before the first request."""
        found = self.outcome.judgements
        found += [judge(series, BOUNDS[series.measure]) for series in self._samples.series(*BOUNDS)]
        processes = {"interlock-executor": len(self._stage.cast.executors)}
        for series in self._samples.series("connections"):
            if series.of in CONNECTIONS:
                most = CONNECTIONS[series.of] * processes.get(series.of, len(self._stage.cast.workers))
                found.append(never_above(series, most))
        deadline = monotonic() + REST_SECONDS
        after = await self._least_tasks()
        while any(after.get(name, 0) > count for name, count in before.items()) and monotonic() < deadline:
            after = await self._least_tasks()
        for name, count in before.items():
            left = after.get(name, count + 1)  # who does not answer is not at rest
            found.append(
                Judgement(measure="tasks at rest", of=name, first=count, last=left, most=count, good=left <= count)
            )

    async def _look_back(self, first_poison: int) -> None:
        """Complain of everything that must not have happened at all."""
        here, complaints = self._stage, self.outcome.complaints
        complaints += [f"{name} ended by itself" for name in self._samples.gone]
        complaints += [f"{line}: an action found another one where none may be" for line in here.notes()[:SHOWN]]
        complaints += [
            f"put aside: {row['reason']}: {row['detail']}" for row in await here.eyes.fetch("poison", first_poison)
        ]
        if self._samples.deadlocks:
            complaints.append(f"{self._samples.deadlocks} deadlocks")
        violations = (await here.client.examine()).violations
        if violations:
            complaints.append(f"the doctor objects to {violations} rows")


def history_of(material: Material) -> dict[UUID, list[Move]]:
    """Return the moves of each execution."""
    history: dict[UUID, list[Move]] = defaultdict(list)
    for move in material.moves:
        history[move.execution_id].append(move)
    return history


async def soak(state: Path, seed: int, *, minutes: float, rate: float) -> Outcome:
    """Soak a private stack with two executors and two workers."""
    quiet()
    async with AsyncExitStack() as undo:
        stack = await undo.enter_async_context(Stack(state, listeners=(stage.LISTENER,)))
        here = await undo.enter_async_context(stage.private(stack))
        for extra in here.cast.workers[WORKERS:]:
            here.cast.players.remove(extra)
            await extra.daemon.stop()
        chosen = random.Random(seed)  # noqa: S311 - repeatable, not secret
        outcome = await Soak(here, chosen, minutes=minutes, rate=rate).run()
        await here.cast.stop()
        outcome.complaints += [*here.cast.odd_exits, *here.cast.bugs()]
        if not outcome.good:
            kept = tempfile.mkdtemp(prefix="interlock-soak-")
            shutil.copytree(stack.logs, kept, dirs_exist_ok=True)
            say(f"the daemons' logs are kept in {kept}")
        return outcome


def lines(outcome: Outcome) -> list[str]:
    """Return what came of it for a person: what grew first, then every series, then the complaints."""
    rows = [("MEASURE", "OF", "FIRST THIRD", "LAST THIRD", "AT MOST", "VERDICT")]
    for each in sorted(outcome.judgements, key=lambda judgement: judgement.good):
        figures = (f"{value:,.1f}" for value in (each.first, each.last, each.most))
        rows.append((each.measure, each.of, *figures, "flat" if each.good else "NOT FLAT"))  # type: ignore[arg-type]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    told = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*told, *outcome.complaints, "good" if outcome.good else "NOT GOOD"]


def document(outcome: Outcome) -> dict[str, object]:
    """Return what came of it for a program."""
    whole = total(Verdict(name="", figures=figures) for figures in outcome.figures)
    return {
        **whole.as_dict(),
        "good": outcome.good,
        "judgements": [asdict(each) for each in outcome.judgements],
        "complaints": outcome.complaints,
    }


async def _until_told(state: Path, options: argparse.Namespace) -> Outcome:
    """Let SIGTERM end it as Ctrl-C does: with everything taken down."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await soak(state, options.seed, minutes=options.minutes, rate=options.rate)


def main() -> int:
    """Read the options, soak, tell; 1 if something was not flat or not right, 69 if it could not begin."""
    parser = argparse.ArgumentParser(prog="./dev soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help="how long the load goes on")
    parser.add_argument("--rate", type=float, default=RATE, metavar="N", help="executions a second")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the load")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    try:
        outcome = asyncio.run(_until_told(load(Client).state or Path(".run"), options))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except InterlockError as error:
        say(str(error))
        return 69
    print("\n".join(lines(outcome)))  # noqa: T201 - the result
    if options.json:
        print(json.dumps(document(outcome)))  # noqa: T201 - the result
    return int(not outcome.good)


if __name__ == "__main__":
    sys.exit(main())
