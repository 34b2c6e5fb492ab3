"""What a request is: judged without a database, and the same request has the same hash however it is written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.acceptance.entries import Entry
from interlock.acceptance.requests import CLOCK_SKEW, judge, request_hash, same_id, usable_id
from interlock.actions.validation import Schema
from interlock.contract.definitions import Action
from interlock.contract.errors import Conflict, Malformed

if TYPE_CHECKING:
    from interlock.acceptance.candidates import Candidate

ID = UUID("01a200fa-52c2-7207-8579-8c9ba1907471")
MADE = datetime.fromtimestamp((ID.int >> 80) / 1000, tz=UTC)


def entry(*, withdrawn: bool = False, **definition: object) -> Entry:
    action = Action.model_validate({"action": "job", "command": ["true"], **definition})
    return Entry(action=action, version=3, withdrawn=withdrawn, schema=Schema(action.params))


def judged(known: Entry | None = None, **fields: object) -> Candidate:
    """Judge one request for `job`, which `known` defines."""
    return judge({"id": str(ID), "action": "job", **fields}, ID, {"job": known or entry()}, ["job"])


def refusal(**fields: object) -> tuple[str, str]:
    """Return the code and the sentence with which a request is refused."""
    known: Any = fields
    error = json.loads(judged(**known).error or "")
    return error["class"], error["message"]


def v7(made: datetime) -> str:
    return str(UUID(int=(int(made.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | 5))


def named(candidate: Candidate) -> list[tuple[str, str]]:
    return [(key.scope, key.name) for key in candidate.keys]


def test_an_accepted_request_takes_from_its_action_what_it_does_not_say() -> None:
    found = judged(entry(pool="gpu", priority=7, timeout={"queue": 5, "total": "1m"}))
    assert (found.error, found.version, found.pool, found.priority) == (None, 3, "gpu", 7)
    assert (found.queue_timeout, found.total_timeout) == (5, 60)
    assert named(found) == [("leaf", "action:job"), ("pool", "gpu")]
    assert (found.params, found.tags) == ("{}", "[]")


def test_what_a_request_says_wins_over_its_action() -> None:
    found = judged(entry(priority=7), priority=0, pool="other", concurrency_key="customer/9")
    assert (found.priority, found.pool) == (0, "other")
    assert named(found) == [("leaf", "action:job"), ("pool", "other"), ("leaf", "key:customer/9")]


def test_a_concurrency_key_cannot_be_mistaken_for_an_action_or_a_pool() -> None:
    names = [named(judged(concurrency_key=key))[2] for key in ("action:job", "default")]
    assert names == [("leaf", "key:action:job"), ("leaf", "key:default")]


def test_a_refused_request_keeps_its_parameters_and_waits_for_nothing() -> None:
    found = judged(action="jab", params={"a": 1}, concurrency_key="x", not_before="2030-01-01T00:00:00Z")
    assert (found.id, found.action, found.version, found.params) == (ID, "jab", None, '{"a":1}')
    assert (found.keys, found.not_before, found.idempotency_key) == ((), None, None)


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"action": "jab"}, "unknown_action", 'did you mean "job"?'),
        ({"action": "zebra"}, "unknown_action", "'zebra' is not registered;"),
        ({"parms": {}}, "invalid_request", "parms: "),
        ({"priority": True}, "invalid_request", "priority: "),
        ({"priority": 1.0}, "invalid_request", "priority: "),
        ({"params": None}, "invalid_request", "params: "),
        ({"tags": [""]}, "invalid_request", "tags.0: "),
        ({"params": {"a": "\0"}}, "invalid_params", "NUL"),
        ({"params": {"a": float("inf")}}, "invalid_params", "finite"),
        ({"action": "a\ud800"}, "invalid_request", "action: "),
        ({"action": "a" * 1000}, "invalid_request", "action: "),
        ({"id": [1]}, "invalid_request", "id: "),
    ],
)
def test_what_cannot_be_accepted_is_refused_with_code_and_field(fields: dict[str, Any], code: str, told: str) -> None:
    found = refusal(**fields)
    assert found[0] == code
    assert told in found[1]


def test_a_withdrawn_action_is_refused() -> None:
    error = json.loads(judged(entry(withdrawn=True)).error or "")
    assert (error["class"], "was withdrawn" in error["message"]) == ("unknown_action", True)


@pytest.mark.parametrize("depth", [1, 64, 65, 150, 190])
def test_deep_parameters_are_refused_and_never_break_the_judge(depth: int) -> None:
    params = json.loads('{"a":' * depth + "1" + "}" * depth)
    assert (judged(params=params).error is None) == (depth <= 64)


@given(
    st.dictionaries(
        st.sampled_from(["id", "action", "params", "priority", "tags", "deadline", "pool", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_whatever_is_asked_becomes_a_row_that_the_database_can_hold(data: dict[str, Any]) -> None:
    found = judge(data, ID, {"job": entry()})
    assert found.id == ID
    assert len(found.hash) == 32
    for text in (found.action, found.params, found.tags, found.error or ""):
        assert "\0" not in text
        assert text.encode()


def test_the_id_must_be_a_uuid7_of_about_now() -> None:
    now = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
    second = timedelta(seconds=1)
    for made in (now, now - CLOCK_SKEW, now + CLOCK_SKEW):
        assert str(usable_id({"id": v7(made)}, now)) == v7(made)
    for made in (now - CLOCK_SKEW - second, now + CLOCK_SKEW + second, datetime(1970, 1, 1, tzinfo=UTC)):
        with pytest.raises(Malformed, match="within a day of 2026-11-22 01:00 UTC"):
            usable_id({"id": v7(made)}, now)


@pytest.mark.parametrize(
    "identity",
    [
        None,
        "",
        5,
        [],
        {},
        "x" * 36,
        "1448eb06-1741-4c98-9aff-799854fcb9e5",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ],
)
def test_anything_else_is_no_usable_id(identity: object) -> None:
    with pytest.raises(Malformed) as refused:
        usable_id({"id": identity}, MADE)
    assert refused.value.reason == "unusable_id"


def test_a_request_without_an_id_is_told_to_bring_one() -> None:
    with pytest.raises(Malformed, match="send a fresh UUIDv7"):
        usable_id({}, MADE)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def shuffled(value: Any, draw: st.DataObject) -> Any:  # noqa: ANN401 - a JSON value
    """Return an equal value whose objects have their names in another order."""
    if isinstance(value, dict):
        names = draw.draw(st.permutations(sorted(value)))
        return {name: shuffled(value[name], draw) for name in names}
    return [shuffled(item, draw) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4), st.data())
def test_the_same_content_has_the_same_hash_whatever_the_order_of_names(
    params: dict[str, Any], draw: st.DataObject
) -> None:
    content = {"action": "job", "params": params, "priority": 3, "concurrency_key": "k"}
    assert request_hash(shuffled(content, draw)) == request_hash(content)


@given(json_values, json_values)
def test_other_parameters_have_another_hash(one: object, other: object) -> None:
    same = json.dumps(_whole(one), sort_keys=True) == json.dumps(_whole(other), sort_keys=True)
    hashes = {request_hash({"action": "job", "params": {"x": value}}) for value in (one, other)}
    assert len(hashes) == (1 if same else 2)


def _whole(value: object) -> object:
    """Write whole floats as integers, as the database's jsonb gives them back."""
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, float) and value.is_integer() and -(2**63) <= value < 2**63:
        return int(value)
    return value


@pytest.mark.parametrize(
    "name", ["action", "params", "idempotency_key", "concurrency_key", "priority", "not_before", "deadline"]
)
def test_each_part_of_the_content_changes_the_hash(name: str) -> None:
    assert request_hash({name: "x"}) != request_hash({name: "y"}) != request_hash({})


def test_id_pool_and_tags_are_no_part_of_the_content() -> None:
    assert len({judged(pool=pool, tags=tags).hash for pool in ("a", "b") for tags in ([], ["x"])}) == 1


def test_what_is_not_said_and_what_is_said_to_be_nothing_are_the_same() -> None:
    assert judged().hash == judged(params={}, priority=None, deadline=None).hash


def test_a_request_has_one_hash_whether_its_action_is_known_or_not() -> None:
    data = {"id": str(ID), "action": "job", "not_before": "2030-01-01T00:00:00+00:00", "params": {"n": 1.0}}
    assert judge(data, ID, {}).hash == judge(data, ID, {"job": entry()}).hash


def test_the_first_of_each_id_is_kept_apart_from_its_repeats() -> None:
    one, other, again = judged(), judged(priority=5), judged()
    assert same_id([one, other, again]) == ([one], [other, again])


def test_a_conflict_of_ids_and_a_held_key_are_told_apart() -> None:
    assert (Conflict("x").reason, Conflict("x", "key_in_use").reason) == ("conflict", "key_in_use")
