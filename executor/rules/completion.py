"""Compares a message about an end with the row it is about.

Law 5. Handling twice equals handling once. Law 1. The row is the truth; a message is a hint.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from interlock.contract.status import TERMINAL, Status


class News(StrEnum):
    """What a completion is worth; the words are those of the metric `interlock_messages_total`."""

    PROCESSED = "processed"
    DUPLICATE = "duplicate"
    STALE = "stale"
    FORGED = "forged"


class End(NamedTuple):
    """Where an execution stands, or is said to."""

    status: Status
    attempt: int
    epoch: int


def judge(row: End | None, told: End, *, holds: bool, limited: bool) -> News:
    """Judge a completion against its row (None if there is none).

    `holds`: the execution has slots; `limited`: it had some while it ran. PROCESSED: it ended so. DUPLICATE: it ended
    so, and its slots came back before, by a repeat or because the executor decided the end. STALE: it is about a former
    attempt or epoch. FORGED: nothing of the kind is committed, so it is untrue, or early.
    """
    if row is None:
        return News.FORGED
    if (told.epoch, told.attempt) < (row.epoch, row.attempt):
        return News.STALE
    if row != told or row.status not in TERMINAL:
        return News.FORGED
    return News.DUPLICATE if limited and not holds else News.PROCESSED
