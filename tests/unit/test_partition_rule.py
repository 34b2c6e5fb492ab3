"""What the counts of a batch say, held against the rules in other words, for every small vector of counts."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from executor.rules.partition import Counts, fails_fast, outcome
from interlock.contract.batches import Outcome
from interlock.contract.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDS = ("completed", "partial", "failed", "timed_out", "cancelled", "abandoned", "skipped")
BAD = ("failed", "timed_out", "abandoned")
MOST = 6
POLICIES = [
    Outcome(partial_min=share, max_failed=most, fail_on_empty=empty)
    for share in (0.0, 0.5, 1.0)
    for most in (None, 0, 2)
    for empty in (False, True)
]


def every_end() -> Iterator[tuple[str, ...]]:
    """Return every multiset of up to MOST ended partitions, as the statuses they ended in."""
    for total in range(MOST + 1):
        yield from itertools.combinations_with_replacement(ENDS, total)


def counted(ended: tuple[str, ...], still_open: int = 0) -> Counts:
    return Counts(total=len(ended) + still_open, **{end: ended.count(end) for end in ENDS})


VECTORS = [(ended, counted(ended)) for ended in every_end()]


def test_there_are_as_many_vectors_as_there_should_be() -> None:
    assert len(VECTORS) == 1716  # 13 choose 6


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_the_outcome_is_that_of_the_rules(policy: Outcome) -> None:
    for ended, counts in VECTORS:
        good = ended.count("completed")
        bad = [end for end in ended if end in BAD]
        reasons_to_fail = [
            not ended and policy.fail_on_empty,
            ended and {"completed", "partial"}.isdisjoint(ended) and set(ended) != {"skipped"},
            good < policy.partial_min * len(ended) and set(ended) - {"completed", "skipped"},
            policy.max_failed is not None and len(bad) > policy.max_failed,
        ]
        perfect = set(ended) <= {"completed", "skipped"}
        expected = "failed" if any(reasons_to_fail) else "completed" if perfect else "partial"
        assert outcome(counts, policy) == expected, ended


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_what_failed_throughout_is_never_more_than_failed(policy: Outcome) -> None:
    for ended, counts in VECTORS:
        if ended and set(ended) <= set(BAD):
            assert outcome(counts, policy) is Status.FAILED


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_what_did_not_go_right_throughout_is_never_completed(policy: Outcome) -> None:
    for ended, counts in VECTORS:
        if set(ended) - {"completed", "skipped"}:
            assert outcome(counts, policy) is not Status.COMPLETED


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_one_more_success_in_place_of_a_failure_never_makes_it_worse(policy: Outcome) -> None:
    ranks = {Status.FAILED: 0, Status.PARTIAL: 1, Status.COMPLETED: 2}
    for ended, counts in VECTORS:
        for bad in set(ended) & set(BAD):
            better = list(ended)
            better[better.index(bad)] = "completed"
            assert ranks[outcome(counted(tuple(better)), policy)] >= ranks[outcome(counts, policy)]


def test_there_is_no_outcome_while_one_partition_is_missing() -> None:
    for ended, _ in VECTORS:
        with pytest.raises(ValueError, match="there is no outcome before all"):
            outcome(counted(ended, still_open=1), Outcome())


def test_a_tenth_is_enough_where_a_tenth_is_asked_for() -> None:
    for total in range(10, 1000, 10):
        enough = Counts(total=total, completed=total // 10, failed=total - total // 10)
        assert outcome(enough, Outcome(partial_min=0.1)) is Status.PARTIAL
        short = Counts(total=total, completed=total // 10 - 1, failed=total - total // 10 + 1)
        assert outcome(short, Outcome(partial_min=0.1)) is Status.FAILED


@pytest.mark.parametrize(
    ("failures", "total", "limit", "sealed", "expected"),
    [
        (9, 9, None, True, False),
        (2, 9, 3, True, False),
        (3, 9, 3, True, True),
        (3, 9, 3, False, True),
        (2, 9, 1 / 3, True, False),
        (3, 9, 1 / 3, True, True),
        (3, 9, 1 / 3, False, False),
        (0, 0, 0.5, True, False),
    ],
)
def test_a_batch_stops_early_when_so_many_failed(
    *, failures: int, total: int, limit: float | None, sealed: bool, expected: bool
) -> None:
    for bad in BAD:
        assert fails_fast(Counts(total=total, **{bad: failures}), limit, sealed=sealed) is expected
    assert not fails_fast(Counts(total=9, completed=2, partial=2, cancelled=3, skipped=2), limit or 1, sealed=sealed)
