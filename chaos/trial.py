"""One trial: a load, a fault beside it, and the material for the auditor once everything has come to rest."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field, replace
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from chaos import batch_eyes
from chaos.audit import Crash, Loss, Material, Move, audit, beyond, events, lost
from chaos.batch_audit import Call, object_to
from chaos.batch_kinds import as_asked
from chaos.ear import FORGER
from chaos.eyes import Eyes
from chaos.figures import EVENT_SECONDS, LEAK_SECONDS, RECOVERY_MARGIN, Bars, Verdict
from chaos.load import Load
from chaos.stage import LEASE
from interlock.contract.errors import Transient

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from chaos.batch_kinds import Child
    from chaos.flavours import Asked, Flavour
    from chaos.stage import Stage

END_SECONDS: Final = 120.0
"""From the end of the fault until everything must have ended."""
REST_SECONDS: Final = 20.0
"""From the last end until nothing may be left of anything, and every event must have been heard."""
EXECUTORS_LEASE: Final = 25.0
"""How long executors look a second time before they believe that many leases ended at once, with their defaults."""
SAMPLE: Final = 0.5
SHOWN: Final = 5


@dataclass(slots=True, kw_only=True)
class Trial:
    """What a fault may use, and what it must tell: what it spoilt itself, and which events no subscriber can hear."""

    stage: Stage
    seed: random.Random
    seconds: float
    load: Load
    ends_at: float
    spoilt: set[bytes] = field(default_factory=set)
    """Bodies of messages that cannot be handled."""
    blackouts: list[tuple[float, float]] = field(default_factory=list)
    """Spans of time, by the database's clock, whose ends may have been announced to queues that are gone."""
    notes: list[str] = field(default_factory=list)
    leaked: float = 0.0
    children: list[Child] = field(default_factory=list)
    """What batches made, as far as it was looked for."""

    @property
    def asked(self) -> list[Asked]:
        """What was asked for, and what batches made of it."""
        return [*self.load.asked, *as_asked(self.load.asked, self.children)]

    @property
    def ids(self) -> list[UUID]:
        """The ids of all that."""
        return [each.id for each in self.asked]

    async def all_ended(self) -> bool:
        """Whether nothing is open, first of what was asked for, then of what that made."""
        if await self.stage.eyes.value("unended", self.ids):
            return False
        known = len(self.children)
        self.children = await batch_eyes.children(self.stage.eyes, self.load.asked)
        return len(self.children) == known or not await self.stage.eyes.value("unended", self.ids)

    @property
    def goes_on(self) -> bool:
        """Whether the fault has time left."""
        return monotonic() < self.ends_at

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the fault's time."""
        await asyncio.sleep(max(0.0, min(seconds, self.ends_at - monotonic())))

    async def clock(self) -> float:
        """Return the time of the database, in seconds of the epoch."""
        return float(await self.stage.eyes.value("clock"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One fault: its name, its sentence, and the coroutine that commits and heals it.

    `harmless` ones touch only what the trial made. `outage`: the database is away on the way. `batches` are the load.
    `hindered`: by how many seconds whoever heals may be held up itself.
    It goes on `longer` times as long as others. `impossible` says why it cannot be run here, or nothing.
    """

    name: str
    sentence: str
    fault: Callable[[Trial], Awaitable[None]]
    harmless: bool = False
    outage: bool = False
    hindered: float = 0.0
    longer: float = 1.0
    batches: bool = False
    flavours: tuple[Flavour, ...] = ()
    impossible: Callable[[Stage], str] = lambda _: ""

    def bars(self, seconds: float, *, beside: bool = False) -> Bars:
        """How high its figures may be: nobody recovers while the database is away, or is declared lost right after.

        `beside` somebody's own workers there are more than three, of which executors do not believe at once that many
        are lost.
        """
        more = self.hindered + (seconds + LEASE if self.outage else 0.0) + (EXECUTORS_LEASE if beside else 0.0)
        return Bars(
            leaked_slot_max_s=LEAK_SECONDS + self.hindered,
            recovery_p99_s=LEASE + RECOVERY_MARGIN + more,
            event_after_crash_max_s=EVENT_SECONDS + more,
        )


async def run(scenario: Scenario, stage: Stage, plan: list[Asked], seed: random.Random, seconds: float) -> Verdict:
    """Run one scenario to its end and judge it."""
    began = monotonic()
    seconds *= scenario.longer
    first_poison = await stage.eyes.value("last_poison")
    noted = len(stage.notes())
    load = Load(
        plan,
        seed,
        seconds=seconds * 0.9,
        topology=stage.topology,
        sender=stage.sender,
        client=stage.client,
        eyes=stage.eyes,
    )
    trial = Trial(stage=stage, seed=seed, seconds=seconds, load=load, ends_at=monotonic() + seconds)
    complaints = await _perform(scenario, trial)
    material = await _material(trial, first_poison, noted)
    figures = audit(material)
    failures = await stage.eyes.fetch("errors", [each.id for each in trial.asked if "failed" not in each.ends])
    return Verdict(
        name=scenario.name,
        figures=figures,
        broken=tuple(scenario.bars(seconds, beside=stage.stack is None).broken(figures)),
        complaints=tuple(complaints),
        notes=(*trial.notes, *_details(material), *(row["text"] for row in failures[:SHOWN])),
        seconds=monotonic() - began,
    )


async def _perform(scenario: Scenario, trial: Trial) -> list[str]:
    """Let load and fault run side by side, then wait until all has ended; return what did not come about in time."""
    complaints = []
    async with asyncio.TaskGroup() as beside:
        sampling = beside.create_task(_sample(trial))
        try:
            async with asyncio.timeout(trial.seconds + END_SECONDS), asyncio.TaskGroup() as both:
                both.create_task(trial.load.run())
                both.create_task(_whole(scenario, trial))
        except TimeoutError:
            complaints.append("the load could not be brought in")
        if not await trial.stage.cast.all_ready():
            complaints.append("not every daemon got ready again")
        deadline = monotonic() + END_SECONDS
        while not await trial.all_ended() and monotonic() < deadline:  # noqa: ASYNC110 - rows
            await asyncio.sleep(SAMPLE / 2)
        await _rest(trial)
        sampling.cancel()
    return complaints


async def _whole(scenario: Scenario, trial: Trial) -> None:
    await scenario.fault(trial)
    await trial.pause(trial.seconds)


async def _rest(trial: Trial) -> None:
    """Wait until nothing is left and every event was heard; what does not come about shows in the figures."""
    deadline = monotonic() + REST_SECONDS
    while monotonic() < deadline:
        if await trial.all_ended() and not await trial.stage.eyes.value("leftovers", trial.ids):
            so_far = await _history(trial)
            history = _by_execution(so_far)
            if not events(so_far, history)[0] and not object_to(so_far, history):
                return
        await asyncio.sleep(SAMPLE)


async def _history(trial: Trial) -> Material:
    """Return what was done and heard so far, and what batches tell."""
    stage = trial.stage
    return Material(
        asked=trial.asked,
        moves=[Move(**row) for row in await stage.eyes.fetch("moves", trial.ids)],
        facts=stage.ear.facts,
        contradictions=stage.ear.contradictions,
        children=trial.children,
        told=await batch_eyes.told(stage.eyes, trial.load.asked),
        calls=[Call.read(line) for line in stage.calls()],
    )


async def _sample(trial: Trial) -> None:
    """Look all the time for slots of what has ended."""
    eyes = Eyes(trial.stage.endpoints.database_url)
    try:
        while True:
            try:
                found = await eyes.value("leaks", trial.stage.keys)
            except Transient:
                continue
            trial.leaked = max(trial.leaked, found)
            await asyncio.sleep(SAMPLE)
    finally:
        await eyes.close()


async def _material(trial: Trial, first_poison: int, noted: int) -> Material:
    stage, ids = trial.stage, trial.ids
    history = await _history(trial)
    ends = [(move.execution_id, move.at) for move in history.moves]
    poison = await stage.eyes.fetch("poison", first_poison)
    # What a user's own work left behind is not for a trial to judge.
    ahead = await _ahead(trial)
    violations = 0 if stage.stack is None else (await stage.client.examine()).violations
    return replace(
        history,
        notes=stage.notes()[noted:],
        losses=[Loss(**row) for row in await stage.eyes.fetch("losses", ids)],
        crashes=await _crashes(stage, ahead),
        ahead=ahead,
        lease=LEASE,
        results_twice=await stage.eyes.value("results", ids),
        drift=await stage.eyes.value("drift", stage.keys) + violations,
        leaked_s=trial.leaked,
        dead_letters=[f"{row['reason']}: {row['detail']}" for row in poison if not _own(trial, row["body"])],
        forgiven={identity for identity, at in ends if any(since <= at <= until for since, until in trial.blackouts)},
    )


async def _ahead(trial: Trial) -> float:
    """Return by how many seconds the database's clock is ahead of ours."""
    before = time()
    theirs = await trial.clock()
    return theirs - (before + time()) / 2


async def _crashes(stage: Stage, ahead: float) -> list[Crash]:
    """Find out which workers died; a process that was killed before it had registered was none."""
    deaths = stage.cast.deaths
    pids, times = [death.pid for death in deaths], [death.at + ahead for death in deaths]
    return [
        Crash(worker=row["worker"], at=times[row["n"] - 1], publishing=deaths[row["n"] - 1].publishing)
        for row in await stage.eyes.fetch("crashed", stage.pool, pids, times)
    ]


def _own(trial: Trial, body: bytes) -> bool:
    """Whether the trial spoilt this message itself, or forged it."""
    return body in trial.spoilt or f'"{FORGER}"'.encode() in body


def _by_execution(material: Material) -> dict[UUID, list[Move]]:
    history: dict[UUID, list[Move]] = defaultdict(list)
    for move in material.moves:
        history[move.execution_id].append(move)
    return history


def _details(material: Material) -> list[str]:
    """Say what is behind the figures, a few lines of each kind."""
    history = _by_execution(material)
    missing, extra = events(material, history)
    batches = object_to(material, history)
    found = {
        "lost": lost(material, history),
        "never heard": missing,
        "never committed": extra,
        "over the limit": [f"{name} by {number}" for name, number in beyond(material.asked, material.moves).items()],
        "noted": list(material.notes),
        "put aside": list(material.dead_letters),
        "still open": batches.still_open,
        "wrong counts": batches.counts,
        "wrong outcome": batches.outcomes,
        "wrong callback": batches.callbacks,
    }
    return [f"{kind}: {line}" for kind, lines in found.items() for line in lines[:SHOWN]]
