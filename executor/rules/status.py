"""Compares a message about a move with the row it is about.

Law 5. Handling twice equals handling once. Law 1. The row is the truth; a message is a hint.
"""

from __future__ import annotations

from enum import StrEnum

from interlock.contract.status import Owner, Status, Subject, is_legal


class Verdict(StrEnum):
    """How the row stands to the message."""

    UNCHANGED = "unchanged"
    BEHIND = "behind"
    STALE = "stale"


def compare(row: tuple[Status, int, int] | None, message: tuple[Status | None, Status, int, int]) -> Verdict:
    """Judge `message` (source, target, attempt, epoch) against `row` (status, attempt, epoch), None if there is none.

    UNCHANGED: the row is where the message says. BEHIND: the row still stands before a worker's legal move of the same
    attempt, which a failover must have lost. STALE: everything else; the row has moved on.
    """
    if row is None:
        return Verdict.STALE
    status, attempt, epoch = row
    source, target, told_attempt, told_epoch = message
    if (attempt, epoch) != (told_attempt, told_epoch):
        return Verdict.STALE
    if status is target:
        return Verdict.UNCHANGED
    if status is source and is_legal(source, target, Owner.WORKER, Subject.LEAF):
        return Verdict.BEHIND
    return Verdict.STALE
