"""Holds a database against the invariants, on one snapshot. Reads only; heals nothing.

A check is one statement that returns the rows that break a rule: at most 20 of them, and how many there are. A finding
breaks no rule: something waits for a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from interlock.adapters import migrations
from interlock.client.store import SQL
from interlock.contract.status import TRANSITIONS

if TYPE_CHECKING:
    from interlock.adapters.postgres import Tx


class Check(NamedTuple):
    """One rule: the invariant it belongs to (empty for a finding), the name of its statement, and its sentence."""

    invariant: str
    name: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row that breaks a rule: whose, and how."""

    subject: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one check found: how many rows in all, and the first of them."""

    invariant: str
    name: str
    sentence: str
    count: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """All verdicts on one snapshot: of the invariants, and the findings."""

    invariants: tuple[Verdict, ...]
    findings: tuple[Verdict, ...]

    @property
    def violations(self) -> int:
        """How many rows break an invariant."""
        return sum(verdict.count for verdict in self.invariants)


# What a snapshot cannot prove is left to whoever watches the traffic: that a subscriber saw each event (I2), and that
# no slot was granted while its key was full (I3). The latter would need the time of each change of a limit; keys above
# their limit are a finding, since a limit that was lowered drains.
CHECKS: Final = (
    Check("I1", "nothing_after_the_end", "no move follows a terminal one in the same epoch"),
    Check("I1", "ended_by_a_move", "what has ended ended by its last move, and what is open did not"),
    Check("I2", "one_end", "exactly one terminal move per execution and epoch"),
    Check("I3", "active_is_slots", "a key's active count is the number of its slots"),
    Check("I3", "slots_come_back", "no slot outlives its execution's time in flight by ten seconds"),
    Check("I3", "in_flight_is_status", "exactly what is scheduled, running or cancelling is in flight"),
    Check("I3", "over_limit", "no slot was given while its key was full"),
    Check("I4", "first_in_first_out", "a lane admits in the order in which its executions entered"),
    Check("I4", "waiting_is_rows", "a key's waiting count is the number of waiting rows of its lanes"),
    Check("I4", "waiting_is_status", "exactly what is requested and has a place waits at that place"),
    Check("I5", "counts_are_rows", "a batch's counters are the counts of its partitions"),
    Check("I5", "batch_ends_with_its_partitions", "a batch has ended exactly when nothing of it is open or can come"),
    Check("I6", "legal_moves", "every move is a legal one, made by its owner"),
    Check("I6", "gapless_moves", "the moves of an execution are numbered without a gap"),
    Check("I6", "moves_join", "every move begins where the one before ended"),
    Check("I6", "last_move_is_status", "the last move led to the status"),
    Check("I7", "result_has_attempt", "a result belongs to the attempt that held the fence"),
    Check("I7", "one_result", "at most one attempt of an execution brought a result"),
    Check("I8", "no_idle_moves", "no move leads to where it began"),
    Check("I9", "something_moves_it", "every open execution has a place, a time, a lease or a person that moves it"),
    Check("I9", "parked_for_a_cause", "every lane waits for a key that is full or shut, or that somebody will call"),
)
FINDINGS: Final = (
    Check("", "late_messages", "messages are published within ten seconds: does an executor run, and a worker?"),
    Check("", "unroutable_messages", "every message finds a queue: was one deleted on the broker?"),
    Check("", "poison_messages", "every message can be handled: look at what was put aside"),
    Check("", "no_worker", "pools with waiters have a worker: start one with INTERLOCK_POOL"),
)
MIGRATIONS: Final = Check("", "migrations", "the schema is the one that this version ships")


async def examine(tx: Tx) -> Examination:
    """Run every check; must be the first thing in its transaction. Reads all history: a million rows take a while."""
    await tx.execute(SQL["snapshot"])
    await tx.execute(SQL["roomier_sorts"])
    invariants = [await _check(tx, check) for check in CHECKS]
    findings = [await _check(tx, check) for check in FINDINGS]
    return Examination(invariants=tuple(invariants), findings=(*findings, await _schema(tx)))


async def _check(tx: Tx, check: Check) -> Verdict:
    found = await tx.fetch(SQL[check.name], *(_legal() if check.name == "legal_moves" else ()))
    return _verdict(check, found[0]["total"] if found else 0, [Row(row["subject"], row["detail"]) for row in found])


def _legal() -> tuple[list[str], ...]:
    return tuple([str(move[column] or "") for move in TRANSITIONS] for column in range(4))


async def _schema(tx: Tx) -> Verdict:
    states = await migrations.status(tx)
    odd = [Row(f"{s.number:04}_{s.name}", f"is {s.state}") for s in states if s.state != "applied"]
    return _verdict(MIGRATIONS, len(odd), odd)


def _verdict(check: Check, count: int, rows: list[Row]) -> Verdict:
    return Verdict(invariant=check.invariant, name=check.name, sentence=check.sentence, count=count, rows=tuple(rows))
