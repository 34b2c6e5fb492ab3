"""Batches at work: what their plans are cut into, and what each item becomes."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from interlock.actions.partitions import (
    MOST_INLINE,
    NOTIFIED,
    Partitioner,
    check_batch,
    items,
    notification,
    partition,
    planner_params,
)
from interlock.contract.batches import Batch, Notify, Partition
from interlock.contract.errors import InvalidParams

USERS: dict[str, Any] = {"users": ["alice", "bob"], "first": 1, "deep": {"list": [{"a": 1}]}}


def batch(run: dict[str, Any] | None = None, **fields: object) -> Batch:
    action = {"action": "do", "params": {"item": "{{ item }}"} if run is None else run}
    return Batch.model_validate({"batch": "b", "partition": {"items": [1]}, "run": action, **fields})


def cut(**plan: object) -> list[Any]:
    return list(items(batch(partition=plan), USERS))


def between(first: object, last: object, step: object = "1d") -> list[Any]:
    return cut(range={"from": first, "to": last, "step": step})


def refusal(first: object, last: object, step: object = "1d") -> str:
    with pytest.raises(InvalidParams) as caught:
        items(batch(partition={"range": {"from": first, "to": last, "step": step}}), USERS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("first", "last", "step", "expected"),
    [
        (1, 3, 1, [1, 2, 3]),
        (-2, 3, 2, [-2, 0, 2]),
        (5, 5, 9, [5]),
        ("{{ params.first }}", "{{ params.first + 2 }}", "{{ params.first }}", [1, 2, 3]),
        ("2026-02-27", "2026-03-01", "1d", ["2026-02-27", "2026-02-28", "2026-03-01"]),
        ("2026-01-01", "2026-01-16", "7d", ["2026-01-01", "2026-01-08", "2026-01-15"]),
        ("2026-01-01", "2026-01-02", "24h", ["2026-01-01", "2026-01-02"]),
        ("9999-12-31", "9999-12-31", "1d", ["9999-12-31"]),
        ("2026-01-0{{ params.first }}", "2026-01-01", "1d", ["2026-01-01"]),
        (
            "2026-01-01T00:00Z",
            "2026-01-01T12:00:00Z",
            "6h",
            ["2026-01-01T00:00:00Z", "2026-01-01T06:00:00Z", "2026-01-01T12:00:00Z"],
        ),
        (
            "2026-01-01 00:00:00.5+05:30",
            "2025-12-31T20:00:00Z",
            "1h",
            ["2026-01-01T00:00:00.500000+05:30", "2026-01-01T01:00:00.500000+05:30"],
        ),
        ("2026-01-01T00:00+00:00", "2026-01-01T00:00Z", "250ms", ["2026-01-01T00:00:00+00:00"]),
    ],
)
def test_a_range_holds_both_ends_and_all_steps_between(
    first: object, last: object, step: object, expected: list[object]
) -> None:
    assert between(first, last, step) == expected


@pytest.mark.parametrize(
    ("first", "last", "step", "text"),
    [
        (3, 1, 1, "partition.range: the range goes backwards, from 3 to 1; exchange the two"),
        ("2026-01-02", "2026-01-01", "1d", "partition.range: the range goes backwards, from 2026-01-02 to 2026-01-01"),
        ("2026-01-01T01:00Z", "2026-01-01T01:00+01:00", "1h", "partition.range: the range goes backwards"),
        ("2026-01-01", "2026-01-02T00:00Z", "1d", "partition.range: from is a date and to is a time"),
        (1, "2026-01-02", "1d", "partition.range: from is a whole number and to is a date"),
        ("2026-01-01T01:00", "2026-01-02", "1d", "partition.range.from: '2026-01-01T01:00' has no time zone"),
        ("2026-01-01", "2026-02-30", "1d", "partition.range.to: '2026-02-30' is no date or time that exists"),
        ("20260101", "2026-02-30", "1d", "partition.range.from: '20260101' is neither a date"),
        ("{{ params.users }}", 1, 1, "partition.range.from: ['alice', 'bob'] is neither a date"),
        ("{{ params.frst }}", 1, 1, "partition.range.from: params.frst is not given"),
        ("{{ true }}", 1, 1, "partition.range.from: True is neither a date"),
        (1, 2, "1d", "partition.range.step: whole numbers go in steps of a whole number above 0, found '1d'"),
        (1, 2, "{{ 0 }}", "partition.range.step: whole numbers go in steps of a whole number above 0, found 0"),
        (1, 2, "{{ true }}", "partition.range.step: whole numbers go in steps of a whole number above 0, found True"),
        ("2026-01-01", "2026-01-02", 1, "partition.range.step: between dates and times it is a duration"),
        ("2026-01-01", "2026-01-02", "6h", "partition.range.step: dates go in whole days, found '6h'"),
        ("2026-01-01", "2026-01-02", "{{ '0s' }}", "partition.range.step: a range with a step of 0 never arrives"),
        ("2026-01-01", "2026-01-02", "{{ 'x' }}", 'partition.range.step: "x" is not a duration'),
        (
            "9999-12-31T23:00+14:00",
            "9999-12-31T23:00-01:00",
            "1h",
            "partition.range.step: in the zone of `from`, the range ends beyond the year 9999",
        ),
    ],
)
def test_a_range_that_cannot_be_is_refused_with_its_field(first: object, last: object, step: object, text: str) -> None:
    assert refusal(first, last, step).startswith(text)


def test_ten_million_items_are_made_one_by_one() -> None:
    plan = items(batch(partition={"range": {"from": 1, "to": 10**18, "step": 1}}), {})
    assert list(itertools.islice(plan, 3)) == [1, 2, 3]
    endless = {"a": {"range": {"from": 1, "to": 10**9, "step": 1}}, "b": {"range": {"from": 1, "to": 2, "step": 1}}}
    pairs = items(batch(partition={"product": endless}), {})
    assert list(itertools.islice(pairs, 3)) == [{"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 1}]


def test_a_product_goes_through_its_last_name_first() -> None:
    days = {"range": {"from": "2026-01-01", "to": "2026-01-02", "step": "1d"}}
    assert [
        partition(batch(), USERS, item)[0] for item in cut(product={"day": days, "user": "{{ params.users }}"})
    ] == [
        "2026-01-01/alice",
        "2026-01-01/bob",
        "2026-01-02/alice",
        "2026-01-02/bob",
    ]
    assert cut(product={"user": "{{ params.users }}", "none": []}) == []


def test_items_are_a_list_or_a_template_that_gives_one() -> None:
    assert cut(items=[1, "{{ params.first }}", {"user": "{{ params.users[0] }}"}]) == [1, 1, {"user": "alice"}]
    assert cut(items="{{ params.users }}") == ["alice", "bob"]
    assert cut(items="{{ params.deep.list }}") == [{"a": 1}]
    assert cut(items="{{ params.users | reverse }}") == ["bob", "alice"]


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        ({"items": "{{ params.first }}"}, "partition.items: comes out as 1, which is not a list"),
        ({"items": "{{ params.users.x }}"}, "partition.items: params.users.x is not given"),
        ({"items": "{{ params.users[2] }}"}, "partition.items: undefined value"),
        ({"items": "{{ params.absent }}"}, "partition.items: params.absent is not given"),
        ({"items": ["{{ params.absent }}"]}, "partition.items[0]: params.absent is not given"),
        ({"product": {"a": "a{{ params.first }}"}}, "partition.product.a: comes out as 'a1', which is not a list"),
        ({"product": {"a": {"range": {"from": 2, "to": 1, "step": 1}}}}, "partition.product.a.range: the range goes"),
    ],
)
def test_what_is_no_list_is_refused_with_its_field(plan: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        cut(**plan)
    assert str(caught.value).startswith(text)


def test_a_long_list_is_refused_with_the_way_to_do_it() -> None:
    plan = batch(partition={"items": "{{ params.all }}"})
    assert sum(1 for _ in items(plan, {"all": ["a name of some length"] * MOST_INLINE})) == MOST_INLINE
    with pytest.raises(InvalidParams, match="100001 items, at most 100000 can be given; plan from an action that"):
        items(plan, {"all": [1] * (MOST_INLINE + 1)})


def test_parameters_that_cannot_be_stored_are_refused() -> None:
    with pytest.raises(InvalidParams, match="NUL"):
        items(batch(), {"a": "\0"})


def test_a_batch_without_a_plan_has_no_items_and_one_of_an_action_does_not_know_them() -> None:
    assert list(items(batch(partition=None, sealed=False), {})) == []
    with pytest.raises(ValueError, match="the partitions of b are what the action plan-it makes"):
        items(batch(partition={"action": "plan-it"}), {})


@pytest.mark.parametrize(
    ("item", "key"),
    [
        ("a b", "a b"),
        ("{{ text }}", "{{ text }}"),
        (7, "7"),
        (2.0, "2"),
        (1.5, "1.5"),
        (True, "true"),
        ({"day": "2026-01-01", "user": "alice", "n": 3, "ok": False}, "2026-01-01/alice/3/false"),
        ("é" * 255, "é" * 255),
    ],
)
def test_an_item_has_a_key_that_people_can_read(item: Any, key: str) -> None:  # noqa: ANN401 - any item
    assert partition(batch(), {}, item)[0] == key
    assert partition(batch(key="{{item}}"), {}, item)[0] == key


@pytest.mark.parametrize(
    ("item", "template", "text"),
    [
        (None, "{{ item }}", "key: the value is null, which has no text; give it another with the filter default"),
        ([1], "{{ item }}", "key: the value is a list, which is not one text"),
        ({"a": [1]}, "{{ item }}", 'or write a key of your own, such as "{{ item.id }}"'),
        ({}, "{{ item }}", "key: comes out empty; a partition needs a name"),
        ("", "{{ item }}", "key: comes out empty; a partition needs a name"),
        ("x" * 256, "{{ item }}", "key: comes out with 256 characters, at most 255 are allowed"),
        ("a\nb", "{{ item }}", r"key: 'a\nb' is not one printable line"),
        ("$plan", "{{ item }}", "key: '$plan' begins with $, as only Interlock's own children do"),
        ({"a": 1}, "{{ item.b }}", "key: item.b is not given"),
        ("a\0", "x{{ item }}", "the text holds a NUL character"),
    ],
)
def test_an_item_without_a_key_is_refused_with_its_number(item: Any, template: str, text: str) -> None:  # noqa: ANN401
    with pytest.raises(InvalidParams) as caught:
        Partitioner(batch(key=template), {}).partition(item, 17)
    assert str(caught.value).startswith("partition 17 (item ")
    assert text in str(caught.value)


def test_the_parameters_of_a_partition_keep_their_types() -> None:
    run = {
        "whole": "{{ item }}",
        "one": "{{ item.n + 1 }}",
        "text": "n={{ item.n }}",
        "users": "{{ params.users }}",
        "deep": [{"{{ item.name }}": "{{ item.n }}"}, "{{ params.first }}", None],
        "{{ item.name }}": "{{ item.name }}",
        "literal": {"a": [True]},
    }
    assert partition(batch(run), USERS, {"n": 2, "name": "x"}) == (
        "2/x",
        {
            "whole": {"n": 2, "name": "x"},
            "one": 3,
            "text": "n=2",
            "users": ["alice", "bob"],
            "deep": [{"x": 2}, 1, None],
            "x": "x",
            "literal": {"a": [True]},
        },
    )


def test_no_partition_can_change_what_another_sees() -> None:
    run = {"n": "{% set x = params.users.append(item) %}{{ params.users | length }}"}
    with pytest.raises(InvalidParams, match="no method named append"):
        partition(batch(run), USERS, 1)
    with pytest.raises(InvalidParams, match="a template cannot change what it is given"):
        partition(batch({"n": "{{ params.deep.pop('list') }}{{ item }}"}), USERS, 1)
    with pytest.raises(InvalidParams, match="a template cannot change what it is given"):
        partition(batch({"n": "{{ item.pop('a') }}"}), USERS, {"a": 1})


def test_parameters_that_cannot_be_rendered_name_field_number_and_item() -> None:
    many = Partitioner(batch({"day": {"of": "{{ item.day }}"}}), {})
    with pytest.raises(InvalidParams) as caught:
        many.partition({"dy": 1}, 900_000)
    wanted = "partition 900000 (item {'dy': 1}): run.params.day: item.day is not given (in '{{ item.day }}')"
    assert str(caught.value) == wanted
    with pytest.raises(InvalidParams, match=r"^partition 1 \(item 1\): run\.params\.day: unexpected end of input"):
        partition(batch({"day": "{{ item"}), {}, 1)
    with pytest.raises(InvalidParams, match=r"^run\.params\.day: params\.day is not given"):
        Partitioner(batch({"day": "{{ params.day }}"}), {})


def test_a_notification_sees_the_parameters_and_the_batch() -> None:
    notify = Notify.model_validate(
        {
            "on": ["finished"],
            "action": "report",
            "params": {"text": "{{ batch.name }}: {{ batch.completed }} of {{ batch.total }}", "to": "{{ params.to }}"},
        }
    )
    facts: dict[str, Any] = dict.fromkeys(NOTIFIED, 1) | {"name": "b"}
    assert notification(notify, {"to": ["a"]}, facts) == {"text": "b: 1 of 1", "to": ["a"]}
    with pytest.raises(InvalidParams, match=re.escape("params.to: params.to is not given")):
        notification(notify, {}, facts)


def test_the_action_that_makes_the_list_gets_its_parameters() -> None:
    plan = Partition(action="plan-it", params={"file": "/data/{{ params.file }}", "rows": "{{ params.rows }}"})
    assert planner_params(plan, {"file": "a.csv", "rows": 3}) == {"file": "/data/a.csv", "rows": 3}
    with pytest.raises(InvalidParams, match=re.escape("partition.params.file: params.file is not given")):
        planner_params(plan, {})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"partition": {"items": "{{ params.usres }}"}}, ['partition.items: unknown parameter "usres"; did you mean']),
        ({"partition": {"items": ["{{ item }}"]}}, ['partition.items[0]: "item" is not known here; templates see']),
        ({"partition": {"action": "a", "params": {"x": "{{ params.x }}"}}}, ["partition.params.x: unknown parameter"]),
        (
            {"partition": {"range": {"from": "{{ params.x }}", "to": "{{ y }}", "step": "{{ z }}"}}},
            ["partition.range.from: unknown", 'partition.range.to: "y" is not', 'partition.range.step: "z" is not'],
        ),
        (
            {"partition": {"product": {"a": "{{ a }}", "b": {"range": {"from": "{{ b }}", "to": 1, "step": 1}}}}},
            ['partition.product.b.range.from: "b" is', 'partition.product.a: "a" is not known here'],
        ),
        (
            {"partition": {"range": {"from": 3, "to": 1, "step": 1}}},
            ["partition.range: the range goes backwards, from 3 to 1; exchange the two"],
        ),
        (
            {"partition": {"product": {"d": {"range": {"from": "2026-01-01T00:00", "to": 1, "step": 1}}}}},
            ["partition.product.d.range: from: '2026-01-01T00:00' has no time zone"],
        ),
        ({"key": "{{ itm }}"}, ['key: "itm" is not known here; templates see params.<name> and item']),
        ({"key": "{{ item | uper }}"}, ["key: the template is not valid: filter uper is unknown"]),
        ({"key": "{{ item.x }}"}, []),
        ({"key": "{{ item.x }}", "partition": None, "sealed": False}, []),
        (
            {"key": "{{ item.x }}", "partition": {"range": {"from": 1, "to": 2, "step": 1}}},
            ['key: unknown name in item "x"; the known ones are none'],
        ),
        (
            {"key": "{{ item.dya }}", "partition": {"product": {"day": [1]}}},
            ['key: unknown name in item "dya"; did you mean "day"?'],
        ),
        ({"key": "{{ item.dya }}", "partition": {"product": {"day": [1]}}, "sealed": False}, []),
        ({"run": {"a": ["{{ params.first }}{{ params.y }}"]}}, ['run.params.a[0]: unknown parameter "y"']),
        (
            {"notify": {"on": ["failed"], "action": "a", "params": {"a": "{{ batch.failde }}{{ item }}"}}},
            [
                'notify[0].params.a: unknown name in batch "failde"; did you mean "failed"?',
                'notify[0].params.a: "item" is not known here; templates see params.<name> and batch',
            ],
        ),
    ],
)
def test_mistakes_in_a_batch_are_found_without_parameters(fields: dict[str, Any], expected: list[str]) -> None:
    found = [
        str(problem) for problem in check_batch(batch(**fields, params={"properties": {"users": {}, "first": {}}}))
    ]
    assert len(found) == len(expected), found
    for problem, text in zip(found, expected, strict=True):
        assert problem.startswith(text)
