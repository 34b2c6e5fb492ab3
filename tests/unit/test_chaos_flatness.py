"""The judge of a soak: what is flat passes, what grows does not, and a burst is neither; and what it tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos import soak
from chaos.figures import Figures
from chaos.flatness import BOUNDS, FEWEST, Bound, Judgement, Series, judge, never_above
from executor import service as executor_service
from worker import service as worker_service

STRICT = Bound(0.0, 0.0, "nothing may grow")
LOOSE = Bound(0.1, 2.0, "a little may")


def series(*values: float) -> Series:
    return Series(measure="rss_mb", of="worker-1", values=values)


@pytest.mark.parametrize(
    ("values", "bound", "good"),
    [
        ([50.0] * 30, STRICT, True),
        ([50.0 + 0.1 * number for number in range(30)], STRICT, False),
        ([50.0 - 0.1 * number for number in range(30)], STRICT, True),
        # 8 of 10 are judged after a warm-up of 2.
        ([1.0, 1.0, *[50.0] * 28], STRICT, True),
        ([50.0] * 20 + [57.0] * 10, LOOSE, True),
        ([50.0] * 20 + [57.1] * 10, LOOSE, False),
        # Bursts, at the end too.
        ([50.0, 50.0, 90.0] * 10, STRICT, True),
        ([50.0] * 28 + [900.0] * 2, STRICT, True),
    ],
)
def test_the_last_third_is_held_against_the_first_one_after_a_warm_up(
    values: list[float], bound: Bound, *, good: bool
) -> None:
    assert judge(series(*values), bound).good is good


def test_a_judgement_tells_where_it_began_and_ended_and_what_would_have_been_too_much() -> None:
    found = judge(series(*[40.0] * 20, *[80.0] * 10), LOOSE)
    assert (found.measure, found.of, found.first, found.last) == ("rss_mb", "worker-1", 40.0, 80.0)
    assert found.most == pytest.approx(46.0)
    assert not found.good


@given(st.lists(st.floats(0, 1e6), max_size=FEWEST - 1))
def test_too_few_samples_are_no_proof(values: list[float]) -> None:
    assert not judge(series(*values), LOOSE).good


@given(st.lists(st.floats(0, 1e6), min_size=FEWEST * 2), st.floats(0, 100))
def test_what_never_grows_is_flat_under_every_bound(values: list[float], slack: float) -> None:
    assert judge(series(*sorted(values, reverse=True)), Bound(0.0, slack, "")).good


@pytest.mark.parametrize(
    ("values", "good"), [([8, 8, 16], True), ([17, 8, 8], False), ([8] * 20 + [17], False), ([], False)]
)
def test_an_exact_limit_holds_for_every_single_sample(values: list[float], *, good: bool) -> None:
    assert never_above(series(*values), 16).good is good


def test_each_measure_says_why_it_may_grow_as_much_as_it_may() -> None:
    assert [name for name, bound in BOUNDS.items() if not bound.reason] == []


def test_the_limits_of_connections_are_those_of_the_daemons() -> None:
    assert soak.CONNECTIONS == {
        "interlock-executor": executor_service.CONNECTIONS,
        "interlock-worker": worker_service.CONNECTIONS,
        "interlock-lease": 1,
    }


def judgement(*, good: bool) -> Judgement:
    return Judgement(measure="fds", of="worker-1", first=20.0, last=20.0 if good else 90.0, most=28.0, good=good)


@pytest.mark.parametrize(
    ("outcome", "good"),
    [
        (soak.Outcome(judgements=[judgement(good=True)]), True),
        (soak.Outcome(judgements=[judgement(good=True), judgement(good=False)]), False),
        (soak.Outcome(judgements=[judgement(good=True)], complaints=["1 deadlocks"]), False),
    ],
)
def test_a_soak_is_good_if_all_was_flat_and_nobody_complained(outcome: soak.Outcome, *, good: bool) -> None:
    assert outcome.good is good
    assert soak.document(outcome)["good"] is good
    assert soak.lines(outcome)[-1] == ("good" if good else "NOT GOOD")


def test_what_was_not_flat_is_told_first_with_its_figures() -> None:
    outcome = soak.Outcome(
        figures=[Figures(executions=500), Figures(executions=500, lost=1)],
        judgements=[judgement(good=True), judgement(good=False)],
        complaints=["lost is 1, may be 0"],
    )
    assert soak.lines(outcome) == [
        "MEASURE  OF        FIRST THIRD  LAST THIRD  AT MOST  VERDICT",
        "fds      worker-1  20.0         90.0        28.0     NOT FLAT",
        "fds      worker-1  20.0         20.0        28.0     flat",
        "lost is 1, may be 0",
        "NOT GOOD",
    ]
    told = soak.document(outcome)
    assert (told["executions"], told["lost"], told["complaints"]) == (1000, 1, ["lost is 1, may be 0"])
