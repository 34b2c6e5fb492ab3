"""The battery: which runs there are, in which order, for which figures; rounds interleave them all."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench import acceptance, batches, commands, floor, growth, handoff, memory, peering, rows
from bench.latency import OpenLoop, latency
from bench.limits import RATE
from bench.stage import CONCURRENCY, LIMITED, NOOP, Cast
from bench.throughput import throughput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

    from bench.outcome import Outcome
    from bench.readings import Reading
    from bench.stage import Stage

DEFAULT: Final = ("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P10", "P11")
LONG: Final = ("P9", "P10-hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is done. `executions`: of P1, from which other sizes follow; the rest is for P7 and the long figures."""

    executions: int
    partitions: int
    finished: int
    waiting: int
    minutes: float
    rate: int

    def part(self, share: float, most: int) -> int:
        """Return a share of the executions, at most so many, at least 20."""
        return max(20, min(most, round(self.executions * share)))

    @property
    def loop(self) -> OpenLoop:
        """The open loop of the product: ten seconds and one of warm-up in a full run."""
        return OpenLoop(rate=RATE, measured=self.part(0.01, 500), warmup=self.part(0.001, 50))

    @property
    def floor_loop(self) -> OpenLoop:
        """The open loop of a floor: half as long."""
        return OpenLoop(rate=RATE, measured=self.part(0.005, 250), warmup=self.part(0.001, 25))

    @property
    def hand_off_seconds(self) -> float:
        """How long one round of one limit takes at best."""
        return min(4.0, self.executions / 12_500)

    def jobs(self, peer: str) -> int:
        """How many a peer drains: what takes it a few seconds."""
        shares = {"pgqueuer": 1.0, "taskiq": 0.2, "procrastinate": 0.06, "celery": 0.1}
        return self.part(shares[peer], self.executions)


@dataclass(frozen=True, slots=True)
class Step:
    """One run of one thing, and the figures that need it. What takes long is done once, whatever the rounds."""

    figures: Collection[str]
    run: Callable[[Stage, Sizes], Awaitable[Reading]]
    once: bool = False


async def _hand_offs(stage: Stage, sizes: Sizes) -> Reading:
    reading = await handoff.single_hops(stage, sizes.part(0.002, 100))
    for limit in handoff.LIMITS:
        reading |= await handoff.floors(stage, limit, sizes.hand_off_seconds)
        reading |= await handoff.hand_off(stage, limit, sizes.hand_off_seconds)
    return reading


async def _acceptances(stage: Stage, sizes: Sizes) -> Reading:
    count = sizes.executions
    reading = await acceptance.floor(stage, count)
    for executors in (1, 2):
        reading |= await acceptance.by_message(stage, count, executors=executors)
    return reading | await acceptance.by_library(stage, count)


async def _commands(stage: Stage, sizes: Sizes) -> Reading:
    count = sizes.part(0.04, 3000)
    return await commands.floor(count) | await commands.commands(stage, count)


async def _growth(stage: Stage, sizes: Sizes) -> Reading:
    finished = await growth.finished(stage, sizes.finished, sizes.executions)
    return finished | await growth.waiting(stage, sizes.waiting, sizes.part(1.0, sizes.waiting))


P1: Final = ("P1", "P2", "P8", "P10", "P11")
TWO: Final = Cast(executors=2, workers=2, concurrency=CONCURRENCY // 2)
STEPS: Final = (
    Step(P1, lambda stage, sizes: floor.drain(stage, "f1", sizes.part(0.2, 10_000))),
    Step(P1, lambda stage, sizes: floor.drain(stage, "f2", sizes.part(1.0, 50_000))),
    Step(P1, lambda stage, sizes: rows.rows(stage, sizes.executions)),
    Step(P1, lambda stage, sizes: throughput(stage, "p1", NOOP, sizes.executions, Cast())),
    Step(("P2",), lambda stage, sizes: throughput(stage, "p2", LIMITED, sizes.executions, Cast())),
    Step(("P11",), lambda stage, sizes: throughput(stage, "p11", NOOP, sizes.executions, TWO)),
    Step(("P3",), lambda stage, sizes: floor.latency(stage, "f1", sizes.floor_loop)),
    Step(("P3",), lambda stage, sizes: floor.latency(stage, "f2", sizes.floor_loop)),
    Step(("P3",), lambda stage, sizes: latency(stage, sizes.loop)),
    Step(("P4",), _hand_offs),
    Step(("P5",), _acceptances),
    Step(("P6",), _commands),
    Step(("P7",), lambda stage, sizes: batches.large_batch(stage, sizes.partitions)),
    Step(("P9",), _growth, once=True),
    Step(("P10-hour",), lambda stage, sizes: memory.hour(stage, sizes.minutes, sizes.rate), once=True),
)


async def play(
    stage: Stage, outcome: Outcome, sizes: Sizes, wanted: Collection[str], rounds: int, *, peers: bool
) -> AsyncIterator[int]:
    """Run what is wanted and add it to `outcome`; yields the number of each round that is over. Peers come with P1."""
    for number in range(1, rounds + 1):
        for step in STEPS:
            if not set(step.figures) & set(wanted) or (step.once and number > 1):
                continue
            _add(outcome, number, await step.run(stage, sizes))
        if peers and set(P1) & set(wanted):
            for name in peering.NAMES:
                reading, outcome.peers[name] = await peering.run(stage, name, sizes.jobs(name))
                _add(outcome, number, reading)
        yield number


def _add(outcome: Outcome, number: int, reading: Reading) -> None:
    outcome.readings.add(reading)
    shown = ("per_second", "p50_ms", "p99_ms", "share", "bare_quorum", "bare_classic", "idle_ms", "busy_ms")
    told = [f"{name} {value:,.2f}" for name, value in reading.items() if name.rpartition(".")[2] in shown]
    print(f"round {number}: {', '.join(told) or ', '.join(reading)}", file=sys.stderr)  # noqa: T201 - progress
