"""What is to be done about a batch, judged on every way it can stand."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.rules.batch import Deed, Standing, Step, next_step
from executor.rules.partition import Counts
from interlock.contract.batches import Batch
from interlock.contract.status import Status

ENDED = st.integers(min_value=0, max_value=3)
COUNTED = ("completed", "partial", "failed", "timed_out", "cancelled", "abandoned", "skipped")


def standing(*, counts: Counts | None = None, **given: Any) -> Standing:  # noqa: ANN401 - fields of a Standing
    """A sealed batch whose planning is over and whose three partitions completed, unless told otherwise."""
    batch = Batch.model_validate({"batch": "b", "run": {"action": "job"}, "sealed": False, "fail_fast": 2})
    usual: dict[str, Any] = {
        "id": UUID(int=1),
        "epoch": 1,
        "status": Status.RUNNING,
        "reason": None,
        "sealed": True,
        "planned": True,
        "plan": Status.COMPLETED,
        "plan_error": None,
        "drains": False,
        "batch": batch,
    }
    return Standing(counts=counts or Counts(total=3, completed=3), **{**usual, **given})


def test_a_batch_whose_every_partition_ended_ends_by_its_outcome() -> None:
    assert next_step(standing()) == Step(deed=Deed.END, target=Status.COMPLETED)
    half = standing(counts=Counts(total=2, completed=1, failed=1))
    assert next_step(half) == Step(deed=Deed.END, target=Status.PARTIAL)


@pytest.mark.parametrize(
    "given",
    [
        {"counts": Counts(total=4, completed=3)},
        {"sealed": False},
        {"plan": Status.RUNNING},
        {"plan": Status.REQUESTED},
        {"plan": Status.RUNNING, "planned": False, "sealed": False},
    ],
    ids=["one missing", "open", "planning runs", "planning is retried", "planning has begun"],
)
def test_a_batch_of_which_something_can_come_rests(given: dict[str, Any]) -> None:
    assert next_step(standing(**given)) == Step(deed=Deed.REST)


@given(total=st.integers(min_value=0, max_value=20), ended=st.fixed_dictionaries(dict.fromkeys(COUNTED, ENDED)))
def test_no_counts_end_a_batch_before_all_are_in(total: int, ended: dict[str, int]) -> None:
    counts = Counts(total=max(total, sum(ended.values())), **ended)
    step = next_step(standing(counts=counts))
    assert (step.deed is Deed.END) == (counts.processed == counts.total)
    assert (step.target is not None) == (step.deed is Deed.END)


@pytest.mark.parametrize("plan", [Status.FAILED, Status.TIMED_OUT, Status.ABANDONED, Status.CANCELLED])
def test_a_planning_that_ended_without_a_plan_is_given_up(plan: Status) -> None:
    step = next_step(standing(planned=False, sealed=False, plan=plan, plan_error="no such file"))
    assert step == Step(deed=Deed.GIVE_UP, reason="failed: planning failed: no such file")
    step = next_step(standing(planned=False, sealed=False, plan=plan))
    assert step.reason == f"failed: planning failed: it is {plan}"


def test_a_planning_that_was_lost_behind_its_last_step_has_planned() -> None:
    step = next_step(standing(plan=Status.ABANDONED, counts=Counts(total=4, completed=3)))
    assert step == Step(deed=Deed.REST)


def test_enough_failures_are_enough() -> None:
    step = next_step(standing(counts=Counts(total=9, failed=1, abandoned=1)))
    assert step == Step(deed=Deed.GIVE_UP, reason="failed: fail_fast: 2 partitions failed")
    assert next_step(standing(counts=Counts(total=9, failed=1, cancelled=1))).deed is Deed.REST


@pytest.mark.parametrize(
    ("reason", "target"),
    [
        ("enough", Status.CANCELLED),
        (None, Status.CANCELLED),
        ("timed_out: not finished by its deadline", Status.TIMED_OUT),
        ("failed: fail_fast: 2 partitions failed", Status.FAILED),
    ],
)
def test_a_cancel_ends_by_its_reason_when_nothing_is_open_any_more(reason: str | None, target: Status) -> None:
    open_ = standing(status=Status.CANCELLING, reason=reason, counts=Counts(total=3, completed=2))
    assert next_step(open_) == Step(deed=Deed.CANCEL_OPEN)
    ended = standing(status=Status.CANCELLING, reason=reason, counts=Counts(total=3, completed=2, cancelled=1))
    assert next_step(ended) == Step(deed=Deed.END, target=target, reason=reason or "")
    unsealed = standing(status=Status.CANCELLING, reason=reason, sealed=False)
    assert next_step(unsealed).target is target


def test_what_had_all_finished_before_its_cancel_stays_what_it_is() -> None:
    assert next_step(standing(status=Status.CANCELLING, reason="enough")).target is Status.COMPLETED


def test_a_cancel_waits_for_the_planning() -> None:
    running = standing(status=Status.CANCELLING, plan=Status.CANCELLING, counts=Counts(total=0), sealed=False)
    assert next_step(running) == Step(deed=Deed.CANCEL_OPEN)
