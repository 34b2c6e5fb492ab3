"""What a batch definition accepts, what it means, and what never changes about its stored form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from interlock.contract.batches import Batch, Notify, Outcome, Partition, PartitionRetry
from interlock.contract.definitions import Retry
from interlock.contract.status import Status

DAYS = {"range": {"from": "2026-01-01", "to": "2026-01-31", "step": "1d"}}
SMALL: dict[str, Any] = {"batch": "small", "partition": {"items": [1]}, "run": {"action": "do"}}
FULL: dict[str, Any] = {
    "batch": "bi-date-update",
    "description": "Brings the days up to date.",
    "params": {"type": "object", "properties": {"users": {"type": "array"}}},
    "partition": {"product": {"user": "{{ params.users }}", "day": DAYS, "db": ["one", "two"]}},
    "key": "{{ item.user }}:{{ item.day }}",
    "run": {"action": "bi.user_day", "params": {"user": "{{ item.user }}", "deep": [{"day": "{{ item.day }}"}]}},
    "max_parallel": 8,
    "retry": {"max_attempts": 3, "delay": "2s", "on": ["timed_out", "failed", "abandoned"]},
    "outcome": {"partial_min": 0.5, "max_failed": 10, "fail_on_empty": True},
    "fail_fast": 0.25,
    "deadline": "2h",
    "pool": "planners",
    "priority": -5,
    "notify": [{"on": ["finished", "cancelled"], "action": "report", "params": {"status": "{{ batch.status }}"}}],
}


def batch(**fields: object) -> Batch:
    return Batch.model_validate(SMALL | fields)


def refusal(**fields: object) -> str:
    with pytest.raises(ValidationError) as caught:
        batch(**fields)
    return str(caught.value)


def test_a_batch_is_stored_without_its_defaults() -> None:
    assert batch().canonical() == '{"batch":"small","partition":{"items":[1]},"run":{"action":"do"}}'


def test_the_defaults_are_those_of_the_contract() -> None:
    assert batch().model_dump(exclude={"batch", "partition", "run"}) == {
        "description": None,
        "params": {"type": "object"},
        "key": "{{ item }}",
        "max_parallel": 32,
        "retry": None,
        "outcome": {"partial_min": 0.0, "max_failed": None, "fail_on_empty": False},
        "fail_fast": None,
        "deadline": None,
        "sealed": True,
        "pool": "default",
        "priority": 0,
        "notify": (),
    }
    assert PartitionRetry() == PartitionRetry.model_validate(Retry().model_dump())


def test_a_full_definition_keeps_its_canonical_form() -> None:
    assert json.loads(Batch.model_validate(FULL).canonical()) == FULL | {
        "partition": {
            "product": [
                {"name": "user", "items": "{{ params.users }}"},
                {"name": "day", **DAYS},
                {"name": "db", "items": ["one", "two"]},
            ]
        },
        "retry": {"max_attempts": 3, "delay": 2, "on": ["abandoned", "failed", "timed_out"]},
        "deadline": 7200,
        "notify": [FULL["notify"][0] | {"on": ["cancelled", "finished"]}],
    }


@pytest.mark.parametrize(
    "fields",
    [
        FULL,
        SMALL,
        SMALL | {"partition": None, "sealed": False},
        SMALL | {"partition": DAYS, "fail_fast": 3, "max_parallel": None},
        SMALL | {"partition": {"action": "plan-it", "params": {"file": "{{ params.file }}"}}},
        SMALL | {"partition": {"items": []}},
        SMALL | {"partition": {"range": {"from": 1, "to": "{{ params.last }}", "step": "{{ params.step }}"}}},
    ],
)
def test_a_stored_batch_comes_back_equal(fields: dict[str, Any]) -> None:
    original = Batch.model_validate(fields)
    assert Batch.from_stored(original.to_stored()) == original
    assert Batch.from_stored(original.canonical()) == original
    assert Batch.from_stored(original.canonical()).checksum() == original.checksum()


def test_the_names_of_a_product_keep_their_order_in_the_database() -> None:
    orders = [{"b": [1], "a": [2]}, {"a": [2], "b": [1]}]
    batches = [batch(partition={"product": order}) for order in orders]
    stored = [Batch.from_stored(json.dumps(each.to_stored(), sort_keys=True)) for each in batches]
    assert [list(each.partition.product or ()) for each in stored if each.partition] == [["b", "a"], ["a", "b"]]
    assert batches[0].checksum() != batches[1].checksum()


def test_one_notification_may_stand_alone() -> None:
    one = {"on": ["finished"], "action": "report"}
    assert batch(notify=one) == batch(notify=[one])
    assert batch(notify=one).notify == (Notify(on=frozenset({"finished"}), action="report"),)


def test_a_retry_may_name_lost_attempts_which_says_nothing_new() -> None:
    retry = batch(retry={"on": ["failed", "abandoned"]}).retry
    assert retry is not None
    assert retry.on == {Status.FAILED, Status.ABANDONED}
    assert retry.delay_before(1, 0.0) == Retry().delay_before(1, 0.0)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"partition": None}, "partition is missing; say how the work is cut, or write `sealed: false`"),
        ({"partition": {}}, "exactly one of range, product, items and action; found none"),
        ({"partition": {"items": [1], **DAYS}}, "found range and items"),
        ({"partition": {"items": [1], "params": {"a": 1}}}, "params are those of the action that makes the list"),
        ({"partition": {"items": "users"}}, "a list is needed here"),
        ({"partition": {"items": 5}}, "a list is needed here"),
        ({"partition": {"items": ["a\0b"]}}, "NUL"),
        ({"partition": {"product": {}}}, "at least 1 item"),
        ({"partition": {"product": {name: [1] for name in "abcdefghi"}}}, "at most 8 items"),
        ({"partition": {"product": {"day": 5}}}, "a list is needed here"),
        ({"partition": {"product": {"day": {}}}}, "the values of a name are a list"),
        ({"partition": {"product": {"day": {**DAYS, "items": [1]}}}}, "the values of a name are a list"),
        ({"partition": {"product": [1]}}, "a product is a mapping of names"),
        ({"partition": {"product": [{"items": [1]}]}}, "a product is a mapping of names"),
        ({"partition": {"product": 5}}, "should be a valid dictionary"),
        ({"partition": {"action": "Plan It"}}, "cannot be a name"),
        ({"partition": {"range": {"from": 1, "to": 2}}}, "partition.range.step"),
        ({"partition": {"range": {"from": 1, "to": 2, "step": 0}}}, "a step of 0 or less never arrives"),
        ({"partition": {"range": {"from": 1, "to": 2, "step": -1}}}, "a step of 0 or less never arrives"),
        ({"partition": {"range": {"from": 1, "to": 2, "step": "0s"}}}, "a step of 0 or less never arrives"),
        ({"partition": {"range": {"from": 1, "to": 2, "step": "often"}}}, '"often" is not a duration'),
        ({"partition": {"range": {"from": 1, "to": 2, "step": True}}}, "a step is a duration such as 1d"),
        ({"partition": {"range": {"from": 1, "to": 2, "step": 1.5}}}, "a step is a duration such as 1d"),
        ({"partition": {"range": {"from": 1.5, "to": 2, "step": 1}}}, "a range goes between dates, times"),
        ({"partition": {"range": {"from": True, "to": 2, "step": 1}}}, "a range goes between dates, times"),
        ({"partition": {"range": {"from": 2**63, "to": 2, "step": 1}}}, "does not fit in 64 bits"),
        ({"partition": {"range": {"from": 1, "to": 2, "step": 1, "by": 2}}}, "Extra inputs"),
        ({"key": "one"}, '"one" names every partition the same; write a template such as "{{ item }}"'),
        ({"key": ""}, "at least 1 character"),
        ({"run": {}}, "run.action"),
        ({"run": {"action": "a", "params": {"x": float("nan")}}}, "finite"),
        ({"max_parallel": 0}, "greater than or equal to 1"),
        ({"max_parallel": 1_000_001}, "less than or equal to 1000000"),
        ({"retry": {"on": []}}, "only these can be made again: abandoned, failed, timed_out"),
        ({"retry": {"on": ["completed"]}}, "only these can be made again: abandoned, failed, timed_out"),
        ({"outcome": {"partial_min": 1.1}}, "less than or equal to 1"),
        ({"outcome": {"max_failed": -1}}, "greater than or equal to 0"),
        ({"outcome": {"fail_on_empty": "yes"}}, "valid boolean"),
        ({"fail_fast": 0}, "write how many failures are too many (5), or what share"),
        ({"fail_fast": 1.0}, "write how many failures are too many (5), or what share"),
        ({"fail_fast": 0.0}, "write how many failures are too many (5), or what share"),
        ({"fail_fast": True}, "write how many failures are too many (5), or what share"),
        ({"fail_fast": "5"}, "write how many failures are too many (5), or what share"),
        ({"fail_fast": 0.5, "sealed": False}, "a share of the total, which an open batch does not know"),
        ({"deadline": 0}, "a timeout of 0 would end everything at once"),
        ({"pool": "relay"}, "reserved"),
        ({"notify": {"on": [], "action": "a"}}, "at least 1 item"),
        ({"notify": {"on": ["ended"], "action": "a"}}, "'started', 'first_failure', 'finished'"),
        (
            {"notify": [{"on": ["failed"], "action": "a"}, {"on": ["finished", "failed"], "action": "b"}]},
            '"failed" is named twice; each event starts one action',
        ),
        ({"partitions": []}, "Extra inputs"),
    ],
)
def test_a_wrong_field_is_refused(fields: dict[str, object], text: str) -> None:
    assert text in refusal(**fields)


def test_a_batch_that_is_open_may_take_a_count_and_a_plan_of_its_own() -> None:
    assert batch(sealed=False, fail_fast=5).fail_fast == 5
    assert batch(fail_fast=0.5).fail_fast == 0.5
    assert batch(outcome={}).outcome == Outcome()
    assert batch().partition == Partition(items=[1])


def test_a_batch_tells_which_actions_it_starts() -> None:
    assert batch().actions() == {"run.action": "do"}
    plan = {"action": "plan-it"}
    notify = [{"on": ["failed"], "action": "a"}, {"on": ["finished"], "action": "b"}]
    assert batch(partition=plan, notify=notify).actions() == {
        "run.action": "do",
        "partition.action": "plan-it",
        "notify[0].action": "a",
        "notify[1].action": "b",
    }
