"""What an action definition accepts, what it means, and what never changes about its stored form."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.contract.canonical import canonical_json, storable
from interlock.contract.definitions import Action, Retry, Timeouts
from interlock.contract.durations import seconds
from interlock.contract.status import Status
from interlock.contract.suggestions import did_you_mean, nearest

if TYPE_CHECKING:
    from pydantic import JsonValue

# No deadline: a busy machine is no failure. No database: a test leaves nothing behind.
law = settings(deadline=None, database=None, max_examples=60)

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(-1e15, 1e15, allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
DURATIONS = st.floats(0.001, 300)
ACTIONS = st.builds(
    Action,
    action=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True),
    command=st.lists(TEXTS, max_size=4).map(lambda rest: ["program", *rest]),
    params=st.dictionaries(TEXTS, JSON, max_size=3),
    limit=st.none() | st.integers(0, 1000),
    priority=st.integers(-100, 100),
    retry=st.builds(
        Retry,
        max_attempts=st.integers(1, 1000),
        delay=DURATIONS,
        on=st.sets(st.sampled_from(["failed"])).map(lambda chosen: chosen or {"failed", "timed_out"}),
    ),
    timeout=st.builds(Timeouts, run=st.none() | DURATIONS, start=st.none() | DURATIONS),
    grace=DURATIONS,
)


def refusal(**fields: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Action.model_validate({"action": "name", **fields})
    return str(caught.value)


def test_an_action_is_stored_without_its_defaults() -> None:
    action = Action.model_validate(
        {"action": "checksum", "command": ["sha256sum", "{{ params.path }}"], "grace": "10s"}
    )
    assert action.canonical() == '{"action":"checksum","command":["sha256sum","{{ params.path }}"]}'
    assert action.checksum() == "6c23d9b72af6a289408accf9dd7ea53b229b79b27fc96fd2f4d737477a1c4303"


def test_a_full_definition_keeps_its_canonical_form() -> None:
    action = Action.model_validate(
        {
            "action": "call",
            "description": "Call it.",
            "http": {
                "method": "post",
                "url": "https://example.com/",
                "headers": {"B": "1", "A": "2"},
                "body": {"n": 1.0},
            },
            "params": {"type": "object", "required": ["a"]},
            "limit": 0,
            "pool": "gpu",
            "priority": -5,
            "retry": {
                "max_attempts": 4,
                "backoff": "linear",
                "delay": "250ms",
                "on": ["timed_out", "failed"],
                "jitter": 0.5,
            },
            "timeout": {"queue": "1h", "start": None, "run": "5m", "total": "1d"},
            "grace": 0,
        }
    )
    assert json.loads(action.canonical()) == {
        "action": "call",
        "description": "Call it.",
        "http": {"method": "POST", "url": "https://example.com/", "headers": {"A": "2", "B": "1"}, "body": {"n": 1}},
        "params": {"type": "object", "required": ["a"]},
        "limit": 0,
        "pool": "gpu",
        "priority": -5,
        "retry": {"max_attempts": 4, "backoff": "linear", "delay": 0.25, "jitter": 0.5},
        "timeout": {"queue": 3600, "start": None, "run": 300, "total": 86400},
        "grace": 0,
    }


def test_the_defaults_are_those_of_the_contract() -> None:
    action = Action(action="a", command=("x",))
    assert action.model_dump() == {
        "action": "a",
        "description": None,
        "command": ("x",),
        "function": None,
        "http": None,
        "params": {"type": "object"},
        "limit": None,
        "rate": None,
        "burst": None,
        "cap": None,
        "cap_policy": "reject",
        "keys": (),
        "pool": "default",
        "priority": 0,
        "retry": {
            "max_attempts": 1,
            "backoff": "exponential",
            "delay": 1.0,
            "max_delay": 300.0,
            "jitter": 0.0,
            "on": frozenset({Status.FAILED, Status.TIMED_OUT}),
            "errors": (),
            "not_errors": (),
        },
        "timeout": {"queue": None, "start": 60.0, "run": None, "total": None},
        "grace": 10.0,
        "isolation": "worker",
        "resources": {"memory": None, "cpu": None, "files": None, "processes": None, "file_size": None},
    }


@law
@given(ACTIONS)
def test_a_stored_action_comes_back_equal(action: Action) -> None:
    assert Action.from_stored(action.to_stored()) == action
    assert Action.from_stored(json.dumps(action.to_stored())) == action
    assert Action.from_stored(action.to_stored()).checksum() == action.checksum()


def test_the_canonical_text_does_not_depend_on_the_order_of_statuses() -> None:
    retry = Retry.model_construct(on=frozenset(Status))
    action = Action.model_construct(action="a", command=("x",), retry=retry)
    assert json.loads(action.canonical())["retry"]["on"] == sorted(Status)


@law
@given(st.dictionaries(TEXTS, JSON, max_size=5))
def test_the_canonical_text_does_not_depend_on_the_order_of_names(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert canonical_json(backwards) == canonical_json(value)
    assert json.loads(canonical_json(value)) == value


def test_equal_numbers_have_one_canonical_text() -> None:
    assert canonical_json([1.0, -0.0, 1e3, 0.5]) == "[1,0,1000,0.5]"


@pytest.mark.parametrize(
    ("fields", "runner"),
    [
        ({"command": ["a"]}, "command"),
        ({"function": "a.b:c.d"}, "function"),
        ({"http": {"url": "{{ params.u }}"}}, "http"),
    ],
)
def test_an_action_says_what_runs_it(fields: dict[str, object], runner: str) -> None:
    assert Action.model_validate({"action": "a", **fields}).runner == runner


@pytest.mark.parametrize("value", ["\0", "\ud800", {"\0": 1}, [float("nan")], float("inf"), 2**63, 1e300])
def test_what_the_database_cannot_give_back_is_refused(value: JsonValue) -> None:
    with pytest.raises(ValueError, match=r"the (text|value) holds"):
        storable(value)


def test_a_value_nested_without_end_is_refused() -> None:
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    with pytest.raises(ValueError, match="nested more than 64 levels"):
        storable(value)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "exactly one of command, function and http; found none"),
        ({"command": ["a"], "function": "a:b"}, "found command and function"),
        ({"command": []}, "at least 1 item"),
        ({"command": [" "]}, "the first item is the program to run"),
        ({"command": ["a\0"]}, "NUL"),
        ({"command": "a b"}, "command"),
        ({"function": "a.b"}, "write package.module:function"),
        ({"function": "a:b:c"}, "write package.module:function"),
        ({"function": "a:<locals>"}, "write package.module:function"),
        ({"command": ["a"], "pool": "relay"}, "reserved"),
        ({"command": ["a"], "pool": "A"}, "cannot be a name"),
        ({"command": ["a"], "action": "a\n"}, "cannot be a name"),
        ({"command": ["a"], "action": "a" * 101}, "cannot be a name"),
        ({"command": ["a"], "limit": -1}, "limit"),
        ({"command": ["a"], "limit": True}, "limit"),
        ({"command": ["a"], "priority": 101}, "priority"),
        ({"command": ["a"], "grace": "61m"}, "grace"),
        ({"command": ["a"], "timeout": {"run": 0}}, "would end everything at once"),
        ({"command": ["a"], "timeout": {"run": "-1s"}}, "is not a duration"),
        ({"command": ["a"], "retry": {"max_attempts": 0}}, "max_attempts"),
        ({"command": ["a"], "retry": {"jitter": 1.1}}, "jitter"),
        ({"command": ["a"], "retry": {"on": []}}, "name one or both"),
        ({"command": ["a"], "retry": {"on": ["completed"]}}, "only failed and timed_out can be retried"),
        ({"command": ["a"], "retry": {"delay": "10m"}}, "raise max_delay too"),
        ({"command": ["a"], "retry": {"errors": ["Http Status"]}}, "cannot be the class of an error"),
        ({"command": ["a"], "retry": {"errors": ["HttpStatus/6xx"]}}, "cannot be the class of an error"),
        ({"command": ["a"], "retry": {"errors": ["A" * 201]}}, "cannot be the class of an error"),
        ({"command": ["a"], "retry": {"errors": ["A", "B"], "not_errors": ["B"]}}, "B is in errors and in not_errors"),
        ({"command": ["a"], "retry": {"on": ["timed_out"], "not_errors": ["A"]}}, "add failed to on"),
        ({"command": ["a"], "key": []}, "key"),
        ({"command": ["a"], "params": {"a": float("nan")}}, "finite"),
        ({"command": ["a"], "params": {"a": "\0"}}, "NUL"),
        ({"http": {"url": "ftp://a"}}, "begin it with https://"),
        ({"http": {"url": "https://a\nb"}}, "line breaks"),
        ({"http": {"url": "https://a", "headers": {"a b": "c"}}}, "cannot be a header name"),
        ({"http": {"url": "https://a", "headers": {"a": "1", "A": "2"}}}, "given twice"),
        ({"http": {"url": "https://a", "headers": {"a": "1\r\nb: 2"}}}, "line breaks"),
    ],
)
def test_a_wrong_field_is_refused(fields: dict[str, object], text: str) -> None:
    assert text in refusal(**fields)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("10s", 10.0),
        ("250ms", 0.25),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("1.5h", 5400.0),
        (3, 3.0),
        (0.1, 0.1),
    ],
)
def test_durations_are_read_as_seconds(written: object, expected: float) -> None:
    assert seconds(written) == expected


@pytest.mark.parametrize("written", ["10", "s", "1h30m", "ten s", "-1s", -1, True, None, float("nan"), "367d", 10**400])
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(written)


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [("constant", [2, 2, 2, 2, 2]), ("linear", [2, 4, 6, 8, 10]), ("exponential", [2, 4, 8, 10, 10])],
)
def test_delays_follow_their_backoff(backoff: str, expected: list[float]) -> None:
    retry = Retry.model_validate({"backoff": backoff, "delay": 2, "max_delay": 10})
    assert [retry.delay_before(failures, 0.7) for failures in range(1, 6)] == expected


def test_jitter_takes_its_share_off_the_delay() -> None:
    assert Retry(delay=10.0, jitter=0.4).delay_before(1, 0.5) == 8.0


@law
@given(
    st.sampled_from(["constant", "linear", "exponential"]),
    st.floats(0, 300),
    st.floats(0, 1),
    st.floats(0, 1),
    st.lists(st.integers(1, 10**400), min_size=2, max_size=6).map(sorted),
)
def test_delays_never_shrink_nor_pass_their_cap(
    backoff: str, delay: float, share: float, jitter: float, failures: list[int]
) -> None:
    retry = Retry.model_validate({"backoff": backoff, "delay": delay, "jitter": share})
    delays = [retry.delay_before(number, jitter) for number in failures]
    assert all(0 <= each <= retry.max_delay for each in delays)
    assert all(earlier <= later for earlier, later in itertools.pairwise(delays))


def test_the_nearest_word_is_suggested_and_a_distant_one_is_not() -> None:
    assert nearest("max_atempts", ["jitter", "max_attempts"]) == "max_attempts"
    assert did_you_mean("Polo", ["pool"]) == '; did you mean "pool"?'
    assert did_you_mean("zebra", ["pool"]) == ""
    assert nearest("x" * 1000, ["x" * 1000]) is None
