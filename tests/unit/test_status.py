"""The table of moves: written out a second time by hand, and held against every question one can ask it."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.contract.status import (
    OPEN,
    TERMINAL,
    TRANSITIONS,
    Owner,
    Status,
    Subject,
    Transition,
    allowed_from,
    guard_condition,
    is_legal,
)

# (from, to, owner, subject), as the public contract tells them; "-" is a row that does not exist yet.
WRITTEN = """
-           requested   executor  leaf parent
-           scheduled   executor  leaf
-           cancelled   executor  leaf parent
-           failed      executor  leaf parent
requested   scheduled   executor  leaf
requested   running     executor  parent
requested   cancelled   executor  leaf parent
requested   timed_out   executor  leaf parent
requested   failed      executor  leaf parent
scheduled   cancelled   executor  leaf
scheduled   timed_out   executor  leaf
scheduled   failed      executor  leaf
scheduled   requested   executor  leaf
scheduled   running     worker    leaf
running     completed   worker    leaf
running     partial     worker    leaf
running     failed      worker    leaf
running     timed_out   worker    leaf
running     skipped     worker    leaf
running     requested   worker    leaf
running     completed   executor  parent
running     partial     executor  parent
running     failed      executor  parent
running     timed_out   executor  parent
running     skipped     executor  parent
running     requested   executor  leaf
running     abandoned   executor  leaf
running     cancelling  executor  leaf parent
cancelling  cancelled   executor  leaf parent
cancelling  timed_out   executor  leaf parent
cancelling  completed   executor  parent
cancelling  partial     executor  parent
cancelling  failed      executor  parent
cancelling  abandoned   executor  parent
cancelling  skipped     executor  parent
cancelling  completed   worker    leaf
cancelling  partial     worker    leaf
cancelling  failed      worker    leaf
cancelling  timed_out   worker    leaf
cancelling  cancelled   worker    leaf
cancelling  abandoned   worker    leaf
cancelling  skipped     worker    leaf
completed   running     executor  parent
partial     running     executor  parent
failed      running     executor  parent
timed_out   running     executor  parent
cancelled   running     executor  parent
abandoned   running     executor  parent
skipped     running     executor  parent
"""
BY_HAND = {
    (source, target, owner, subject)
    for line in WRITTEN.split("\n")
    if line
    for source, target, owner, *subjects in (line.split(),)
    for subject in subjects
}

sources = st.one_of(st.none(), st.sampled_from(Status))
moves = st.tuples(sources, st.sampled_from(Status), st.sampled_from(Owner), st.sampled_from(Subject))


def test_the_table_is_the_one_that_the_contract_tells() -> None:
    assert {(move.source or "-", *move[1:]) for move in TRANSITIONS} == BY_HAND


def test_every_possible_move_is_legal_exactly_when_it_is_in_the_table() -> None:
    for source, target, owner, subject in product((None, *Status), Status, Owner, Subject):
        assert is_legal(source, target, owner, subject) == ((source or "-", target, owner, subject) in BY_HAND)


@given(moves)
def test_plain_words_are_judged_like_statuses(move: tuple[Status | None, Status, Owner, Subject]) -> None:
    source, target, owner, subject = move
    words = (
        None if source is None else Status(str(source)),
        Status(str(target)),
        Owner(str(owner)),
        Subject(str(subject)),
    )
    assert is_legal(*words) == (Transition(*move) in TRANSITIONS)


def test_open_and_terminal_share_nothing_and_leave_nothing_out() -> None:
    assert {str(status) for status in OPEN} == {"requested", "scheduled", "running", "cancelling"}
    assert set(Status) == OPEN | TERMINAL
    assert not OPEN & TERMINAL


@given(st.sampled_from(sorted(TERMINAL)), st.sampled_from(Status), st.sampled_from(Owner))
def test_a_leaf_never_leaves_a_terminal_status(source: Status, target: Status, owner: Owner) -> None:
    assert not is_legal(source, target, owner, Subject.LEAF)


def test_a_terminal_parent_is_only_ever_restarted_and_by_the_executor() -> None:
    assert {move[1:3] for move in TRANSITIONS if move.source in TERMINAL} == {(Status.RUNNING, Owner.EXECUTOR)}


@given(st.sampled_from(Status), st.sampled_from(Owner), st.sampled_from(Subject))
def test_no_move_leads_to_where_it_began(status: Status, owner: Owner, subject: Subject) -> None:
    assert not is_legal(status, status, owner, subject)


def test_workers_move_leaves_only_and_never_admit_cancel_or_create() -> None:
    theirs = [move for move in TRANSITIONS if move.owner is Owner.WORKER]
    assert {move.subject for move in theirs} == {Subject.LEAF}
    assert not {move.target for move in theirs} & {Status.SCHEDULED, Status.CANCELLING}
    assert {move.source for move in theirs} == {Status.SCHEDULED, Status.RUNNING, Status.CANCELLING}


def test_every_open_status_of_a_leaf_leads_to_an_end() -> None:
    ways = {(move.source, move.target) for move in TRANSITIONS if move.subject is Subject.LEAF}
    reached = set(TERMINAL)
    while grown := {source for source, target in ways if target in reached and source is not None} - reached:
        reached |= grown
    assert reached == set(Status)


@pytest.mark.parametrize(
    ("target", "owner", "subject", "expected"),
    [
        ("running", "worker", "leaf", ("scheduled",)),
        ("running", "executor", "leaf", ()),
        ("completed", "worker", "leaf", ("cancelling", "running")),
        ("completed", "executor", "parent", ("cancelling", "running")),
        ("requested", "executor", "leaf", ("running", "scheduled")),
        ("requested", "worker", "leaf", ("running",)),
        ("cancelled", "executor", "leaf", ("cancelling", "requested", "scheduled")),
        ("cancelled", "executor", "parent", ("cancelling", "requested")),
    ],
)
def test_the_sources_of_a_move_are_those_of_the_table_sorted(
    target: str, owner: str, subject: str, expected: tuple[str, ...]
) -> None:
    assert allowed_from(Status(target), Owner(owner), Subject(subject)) == expected


@given(moves)
def test_a_status_is_among_the_sources_exactly_when_its_move_is_legal(
    move: tuple[Status | None, Status, Owner, Subject],
) -> None:
    source, target, owner, subject = move
    found = allowed_from(target, owner, subject)
    assert (source in found) == (source is not None and is_legal(*move))
    assert list(found) == sorted(set(found))


def test_the_guard_names_every_status_once() -> None:
    condition = guard_condition()
    for status in Status:
        assert condition.count(f"WHEN '{status}' THEN") == 1
