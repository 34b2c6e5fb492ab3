"""Turns a demo that has come to rest into figures and complaints: from the rows, the logs and what was heard."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from interlock.contract.status import Status
from interlock.local.demo_job import wrong_results
from interlock.local.demo_report import Figures, Outcome, loud_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from interlock.client import Client
    from interlock.client.doctor import Examination
    from interlock.local.demo_job import Job
    from interlock.local.demo_stage import Stage
    from interlock.local.demo_traffic import Traffic

LIMITED: Final = "checksum"
LIMIT: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What happened: the job, the events, checksums of the files before and after, who was killed, how long it took."""

    job: Job
    traffic: Traffic
    checksums: Mapping[str, str]
    checksums_after: Mapping[str, str]
    killed: str
    seconds: float


async def measure(stage: Stage, client: Client, record: Record) -> Outcome:
    """Measure everything, with the daemons stopped."""
    job, traffic = record.job, record.traffic
    examination = await client.examine()
    loud = loud_lines(daemon.log for daemon in stage.daemons.executors)
    unchanged = await stage.unchanged_writes()
    wrong = await asyncio.to_thread(wrong_results, job, record.checksums, record.checksums_after)
    figures = Figures(
        executions=len(job.submitted),
        completed=sum(execution.status is Status.COMPLETED for execution in job.ended.values()),
        failed=len(job.failed) + len(job.open),
        completed_events=traffic.completed_events,
        duplicates_injected=traffic.injected,
        unchanged_writes=sum(unchanged.values()) + await stage.value("unchanged_moves"),
        warnings=len(loud),
        slots_held=await stage.value("slots_held"),
        over_limit=await stage.value("over_limit", LIMITED, LIMIT),
        wrong_results=len(wrong),
        doctor_violations=examination.violations,
        seconds=round(record.seconds, 1),
    )
    complaints = (
        *_unfinished(record),
        *(f"announced under several ids: {subject}" for subject in traffic.told_twice),
        *(f"{rows} updates of {table} changed nothing" for table, rows in unchanged.items()),
        *(f"an executor said: {line}" for line in loud),
        *(f"wrong result: {line}" for line in wrong),
        *broken(examination),
    )
    return Outcome(figures=figures, complaints=complaints, proof=_proof(figures, record, examination))


def _unfinished(record: Record) -> list[str]:
    job = record.job
    complaints = [f"{each.action} {each.id} ended {each.status}: {each.error}" for each in job.failed]
    complaints += [f"{identity} has not ended" for identity in sorted(job.open)]
    if not job.taken_over:
        complaints.append(f"{record.killed} was killed, and nothing had to be taken over from it")
    return complaints


def broken(examination: Examination) -> list[str]:
    """Say of each row that breaks an invariant which, and how."""
    return [
        f"doctor: {verdict.invariant}: not so: {verdict.sentence}: {row.subject} {row.detail}"
        for verdict in examination.invariants
        for row in verdict.rows
    ]


def _proof(figures: Figures, record: Record, examination: Examination) -> str:
    return (
        f"{figures.executions} executions: each ended once, completed, and was announced once, although "
        f"{figures.duplicates_injected} events were sent twice and {record.killed} was killed "
        f"({record.job.taken_over} executions were taken over from it).\n"
        f"doctor: {len(examination.invariants)} checks on the invariants, {examination.violations} violations."
    )
