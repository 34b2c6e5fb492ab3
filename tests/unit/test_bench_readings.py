"""Medians, ratios, percentiles and costs of the benchmark: what they say of numbers that are known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import processes
from bench.battery import DEFAULT, LONG, STEPS, Sizes
from bench.meter import Counters, per_execution
from bench.outcome import Outcome, Peer
from bench.readings import Readings, named, percentile

STAT = "17 (a (strange) name) S 4 17 17 0 -1 4194560 1 2 3 4 100 50 30 20 20 0 1 0 99 0 0"


def test_a_reading_is_the_median_of_its_rounds_and_tells_its_range() -> None:
    readings = Readings()
    for value in (3.0, 100.0, 5.0):
        readings.add({"p1.per_second": value})
    assert readings["p1.per_second"] == 5.0
    assert readings.spread("p1.per_second") == (3.0, 100.0)
    assert readings.rounds == {"p1.per_second": [3.0, 100.0, 5.0]}


def test_a_ratio_compares_medians_and_not_rounds() -> None:
    readings = Readings({"ours": [2.0, 8.0, 4.0], "floor": [8.0, 2.0, 5.0], "nothing": [0.0]})
    assert readings.ratio("ours", "floor") == pytest.approx(0.8)
    assert readings.ratio("ours", "nothing") == math.inf


def test_what_was_not_measured_is_not_there() -> None:
    readings = Readings({"p1.per_second": [1.0]})
    assert readings.get("p2.per_second") is None
    assert not readings.has("p1.per_second", "p2.per_second")
    with pytest.raises(KeyError):
        readings["p2.per_second"]


def test_names_are_put_together_and_taken_apart_again() -> None:
    readings = Readings()
    readings.add(named("peer.celery", {"per_second": 1.0, "jobs": 2.0}))
    readings.add(named("peer.pgqueuer", {"per_second": 1.0}))
    assert readings.named("peer") == ["celery", "pgqueuer"]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_that_enough_of_all_do_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.5)


def test_costs_are_divided_by_executions_and_cpu_is_told_in_all_and_by_part() -> None:
    before = Counters(transactions=100, messages=10, batch_updates=3, wal_bytes=1000)
    after = Counters(transactions=300, messages=20, batch_updates=23, wal_bytes=201_000)
    assert per_execution(before, after, {"worker": 0.5, "broker": 0.25}, 1000) == {
        "transactions": pytest.approx(0.2),
        "messages": pytest.approx(0.01),
        "batch_updates": pytest.approx(0.02),
        "wal_bytes": pytest.approx(200.0),
        "cpu_us": pytest.approx(750.0),
        "cpu_us.worker": pytest.approx(500.0),
        "cpu_us.broker": pytest.approx(250.0),
    }


def test_the_cpu_of_a_process_counts_the_children_that_it_waited_for() -> None:
    assert processes.parse_stat(STAT, tick=0.01) == processes.Process(4, 2.0)


def test_the_cpu_of_a_tree_counts_all_below_its_roots_once() -> None:
    found = {
        1: processes.Process(0, 1000.0),
        2: processes.Process(1, 1.0),
        3: processes.Process(2, 2.0),
        4: processes.Process(3, 4.0),
        5: processes.Process(1, 500.0),
    }
    assert processes.tree(found, [2, 3]) == {2, 3, 4}
    assert processes.seconds(found, [2, 3]) == 7.0
    assert processes.seconds(found, [99]) == 0.0


def test_what_is_idle_or_waits_for_a_disk_is_not_busy_and_a_guest_counts_once() -> None:
    assert processes.parse_busy("cpu  100 20 30 5000 600 7 8 9 100 0\ncpu0 1 2", tick=0.01) == pytest.approx(1.74)


def test_an_outcome_is_the_same_after_it_was_written_and_read() -> None:
    outcome = Outcome(
        date="2026-01-01",
        facts={"Kernel": "Linux"},
        settings={"Rounds": "3"},
        readings=Readings({"p1.per_second": [1.0, 2.0]}),
        peers={"celery": Peer(versions={"celery": "5"}, settings="prefork")},
    )
    again = Outcome.from_json(outcome.to_json())
    assert again.to_json() == outcome.to_json()
    assert again.peers == outcome.peers


def test_every_figure_has_a_run_and_what_takes_long_is_done_once() -> None:
    assert {figure for step in STEPS for figure in step.figures} == {*DEFAULT, *LONG}
    for step in STEPS:
        assert step.once == bool(set(step.figures) & set(LONG))


@pytest.mark.parametrize("executions", [20, 400, 50_000, 100_000])
def test_sizes_follow_the_executions_and_are_never_nothing(executions: int) -> None:
    sizes = Sizes(executions=executions, partitions=1, finished=1, waiting=1, minutes=1.0, rate=1)
    assert sizes.loop.measured >= 20
    assert 20 <= sizes.jobs("celery") <= sizes.jobs("pgqueuer") <= executions
    assert 0 < sizes.hand_off_seconds <= 4.0
