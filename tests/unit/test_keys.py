"""Concurrency keys: how they are bounded and named, what a definition says of them, and what its author is told."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from interlock.actions.definition import disagreements, examine
from interlock.actions.rendering import render_keys
from interlock.contract.definitions import Action
from interlock.contract.errors import InvalidParams
from interlock.contract.keys import (
    LONGEST_NAME,
    MOST_OWN_KEYS,
    RESERVED,
    SMOOTH_SECONDS,
    Bounds,
    Key,
    key_name,
    rate_seconds,
)

# No deadline: a busy machine is no failure. No database: a test leaves nothing behind.
law = settings(deadline=None, database=None, max_examples=100)

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
WHAT_TO_WRITE = "is not a rate; write a number per time: 10/s, 100/m or 5/10s"
LARGEST_INT = 2**31 - 1


def action(*keys: dict[str, Any], **fields: object) -> Action:
    return Action.model_validate({"action": "job", "command": ["true"], "keys": list(keys), **fields})


def told(*keys: object, **fields: object) -> list[str]:
    """Return what the author of these keys is told; `customer` is the one parameter."""
    raw = {"action": "job", "command": ["true"], "params": {"properties": {"customer": {}}}, "keys": list(keys)}
    found = examine(raw | fields)
    return [str(problem) for problem in found] if isinstance(found, list) else []


def rendered(*names: str, **params: Any) -> list[tuple[str, int | None]]:  # noqa: ANN401 - any parameter
    """Return the names that these templates come out as, each with the number (from 1) of the key that bounds it."""
    keys = [{"name": name, "limit": number} for number, name in enumerate(names, start=1)]
    return [(name, key.limit) for name, key in render_keys(action(*keys), params)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10/s", 0.1),
        ("1/s", 1),
        ("100/m", 0.6),
        ("5/10s", 2),
        ("100/5m", 3),
        ("2/250ms", 0.125),
        ("1/1.5h", 5400),
        ("1/d", 86_400),
        (" 10 / s ", 0.1),
        ("5/10 s", 2),
        ("9999999/s", 1 / 9_999_999),
    ],
)
def test_a_rate_is_the_seconds_between_two_admissions(text: str, seconds: float) -> None:
    assert rate_seconds(text) == seconds


NOT_RATES = """
    10, 10/, /s, 0/s, -1/s, 1.5/s, 10/week, 10 per s, 10/s/s, 10//s, 10000000/s, 10/S, \u0661/s, 01/s, 1_0/s, 10 / 5 / s
"""


@pytest.mark.parametrize("text", ["", "10/s\n10/s", "10" * 100, *NOT_RATES.strip().split(", ")])
def test_what_is_not_a_rate_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=WHAT_TO_WRITE):
        rate_seconds(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1/0s", "the time cannot be zero"),
        ("5/0.0ms", "the time cannot be zero"),
        ("1/367d", "out of range"),
        ("1/1.2.3s", "is not a duration"),
        ("1/.s", "is not a duration"),
    ],
)
def test_a_rate_over_no_time_or_an_endless_one_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        rate_seconds(text)


@law
@given(count=st.integers(1, 9_999_999), number=st.integers(1, 300), unit=st.sampled_from(sorted(UNITS)))
def test_a_rate_of_so_many_in_a_time_is_that_time_shared_out(count: int, number: int, unit: str) -> None:
    assert rate_seconds(f"{count}/{number}{unit}") == pytest.approx(number * UNITS[unit] / count)


@law
@given(st.text(max_size=30) | st.from_regex(r"[0-9]{1,9} ?/ ?[0-9.]{0,9} ?(ms|s|m|h|d|w)"))
def test_any_text_is_a_rate_or_refused(text: str) -> None:
    try:
        seconds = rate_seconds(text)
    except ValueError:
        return
    assert 0 < seconds <= 366 * 86_400


@law
@given(st.text(max_size=2 * LONGEST_NAME))
def test_a_name_is_kept_as_it_is_or_refused(text: str) -> None:
    allowed = text.isprintable() and text.strip() != "" and not text.startswith(tuple(RESERVED))
    if allowed and len(text) <= LONGEST_NAME:
        assert key_name(text) == text
    else:
        with pytest.raises(ValueError, match=r"key|the text holds"):
            key_name(text)


@pytest.mark.parametrize("text", ["a", "customer/7", "größe", "a b", "keys", "action", " x ", "x" * LONGEST_NAME])
def test_any_printable_line_is_a_name(text: str) -> None:
    assert key_name(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be empty or blank"),
        (" ", "cannot be empty or blank"),
        ("x" * 256, "1 to 255 characters, this one 256"),
        ("a\nb", "one printable line"),
        ("a\tb", "one printable line"),
        ("a\x1b[0m", "one printable line"),
        ("a\u202eb", "one printable line"),
        ("a\0b", "NUL"),
        ("a\ud800", "half of a character"),
        ("action:job", "the limit of an action; choose another name"),
        ("batch:7", "the max_parallel of a batch; choose another name"),
        ("key:customer", "the concurrency key of a request; choose another name"),
    ],
)
def test_other_names_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        key_name(text)


@pytest.mark.parametrize(
    ("fields", "columns"),
    [
        ({}, (None, None, "reject", None, 1)),
        ({"limit": 0}, (0, None, "reject", None, 1)),
        ({"limit": 3, "cap": 0}, (3, 0, "reject", None, 1)),
        ({"cap": 5, "cap_policy": "drop_oldest"}, (None, 5, "drop_oldest", None, 1)),
        ({"rate": "10/s"}, (None, None, "reject", 0.1, 1)),
        ({"rate": "100/s"}, (None, None, "reject", 0.01, 1)),
        ({"rate": "101/s"}, (None, None, "reject", 1 / 101, 2)),
        ({"rate": "1000/s"}, (None, None, "reject", 0.001, 10)),
        ({"rate": "1000/s", "burst": 1}, (None, None, "reject", 0.001, 1)),
        ({"rate": "1/h", "burst": 7}, (None, None, "reject", 3600, 7)),
    ],
)
def test_bounds_become_the_columns_of_a_key(fields: dict[str, Any], columns: tuple[object, ...]) -> None:
    found = Bounds(**fields).columns()
    assert tuple(found[name] for name in ("lim", "cap", "cap_policy", "rate_every", "rate_burst")) == columns
    assert len(found) == 5


@law
@given(count=st.integers(1, 9_999_999), number=st.integers(1, 300), unit=st.sampled_from(["s", "m", "h", "d"]))
def test_a_rate_lets_through_together_what_falls_into_the_time_that_clocks_do_not_tell_apart(
    count: int, number: int, unit: str
) -> None:
    bounds = Bounds(rate=f"{count}/{number}{unit}").columns()
    every, burst = bounds["rate_every"], bounds["rate_burst"]
    assert isinstance(every, float)
    assert isinstance(burst, int)
    assert burst == max(1, math.ceil(SMOOTH_SECONDS / every))
    assert burst <= LARGEST_INT


@pytest.mark.parametrize("rate", ["9999999/ms", "1/0.000000001ms", "9999999/0.000000001ms"])
def test_however_fast_a_rate_is_the_database_can_count_its_burst(rate: str) -> None:
    """What cannot be counted must be refused where it is written, not where it is used."""
    try:
        bounds = Bounds(rate=rate)
    except ValidationError:
        return
    burst = bounds.columns()["rate_burst"]
    assert isinstance(burst, int)
    assert burst <= LARGEST_INT


@pytest.mark.parametrize("field", ["limit", "burst", "cap"])
@pytest.mark.parametrize("value", [-1, 1.0, "1", True, 10**12])
def test_bounds_are_whole_numbers_within_reason(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Bounds.model_validate({"rate": "1/s", field: value})


def test_a_burst_of_none_is_no_burst_but_a_limit_and_a_cap_of_none_are() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Bounds(rate="1/s", burst=0)
    assert (Bounds(limit=0).limit, Bounds(cap=0).cap) == (0, 0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"burst": 2}, "give the rate, too, such as `rate: 10/s`"),
        ({"cap_policy": "drop_oldest"}, "give the cap, too, such as `cap: 100`"),
    ],
)
def test_what_means_nothing_alone_is_refused_with_what_to_add(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Bounds(**fields)


def test_a_key_is_frozen_and_equal_to_another_that_says_the_same() -> None:
    key = Key(name="a", rate=" 10/s ")
    assert key == Key(name="a", rate="10/s")
    assert key != Key(name="a", rate="600/m")
    with pytest.raises(ValidationError, match="frozen"):
        key.limit = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ({"name": "a", "limt": 1}, 'keys[0].limt: unknown field; did you mean "limit"?'),
        (
            {"name": "a", "zzz": 1},
            "keys[0].zzz: unknown field; the known ones are limit, rate, burst, cap, cap_policy, name",
        ),
        (
            {"limit": 1},
            "keys[0].name: is missing; give the key a name, such as `name: customer/{{ params.customer }}`",
        ),
        ("customer", "keys[0]: must be a mapping of names to values, found 'customer'"),
        ({"name": 7}, 'keys[0].name: must be a text, found 7; put it in quotes: "7"'),
        ({"name": ""}, "keys[0].name: a key's name cannot be empty or blank"),
        (
            {"name": "a\nb"},
            "keys[0].name: a key's name is one printable line; leave out line breaks and control characters",
        ),
        ({"name": "a", "limit": "3"}, "keys[0].limit: must be a whole number, found '3'"),
        ({"name": "a", "limit": -1}, "keys[0].limit: input should be greater than or equal to 0; found -1"),
        ({"name": "a", "rate": 10}, 'keys[0].rate: must be a text, found 10; put it in quotes: "10"'),
        ({"name": "a", "rate": "fast"}, f'keys[0].rate: "fast" {WHAT_TO_WRITE}'),
        (
            {"name": "a", "burst": 2},
            "keys[0]: burst is how many a rate lets through at once; give the rate, too, such as `rate: 10/s`",
        ),
        (
            {"name": "a", "cap": 1, "cap_policy": "drop_oldst"},
            "keys[0].cap_policy: 'drop_oldst' is not one of reject, drop_oldest; did you mean \"drop_oldest\"?",
        ),
    ],
)
def test_what_is_wrong_with_a_key_is_told_at_its_field(key: object, complaint: str) -> None:
    assert told(key) == [complaint]


@pytest.mark.parametrize("beginning", RESERVED)
def test_a_reserved_beginning_is_named_with_what_it_stands_for(beginning: str) -> None:
    (complaint,) = told({"name": f"{beginning}x"})
    assert complaint == (
        f'keys[0].name: a key cannot begin with "{beginning}", which is {RESERVED[beginning]}; choose another name'
    )


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("c/{{ params.costumer }}", 'unknown parameter "costumer"; did you mean "customer"?'),
        ("{{ customer }}", '"customer" is not known here; write params.customer'),
        ("{{ params.customer | upcase }}", "the template is not valid: filter upcase is unknown"),
        ("{{ params.customer", "the template is not valid: unexpected end of input"),
    ],
)
def test_a_wrong_template_is_told_at_the_name_of_its_key(template: str, complaint: str) -> None:
    (first,) = told({"name": template})
    assert first.startswith(f"keys[0].name: {complaint}")
    (second,) = told({"name": "sound"}, {"name": template})
    assert second.startswith(f"keys[1].name: {complaint}")


def test_a_definition_has_a_few_keys_and_each_of_them_once() -> None:
    names = [{"name": str(number)} for number in range(MOST_OWN_KEYS + 1)]
    assert told(*names[:-1]) == []
    (complaint,) = told(*names)
    assert complaint == f"keys: has {MOST_OWN_KEYS + 1} items, at most {MOST_OWN_KEYS} are allowed; leave some out"
    assert told({"name": "a"}, {"name": "b"}, {"name": "a"}) == ['keys: the key "a" is named twice; keep one']


def test_keys_are_a_list() -> None:
    assert told(keys={"name": "a"}) == ["keys: must be a list, found {'name': 'a'}"]


def test_the_bounds_of_the_action_s_own_key_are_told_like_those_of_the_others() -> None:
    assert told(limt=1) == ['limt: unknown field; did you mean "limit"?']
    assert told(rate="often") == [f'rate: "often" {WHAT_TO_WRITE}']


def test_keys_are_stored_with_their_definition_and_read_back() -> None:
    kept = action({"name": "c/{{ params.c }}", "limit": 2, "rate": "10/s"}, {"name": "lock", "limit": 1}, cap=9)
    assert Action.from_stored(kept.to_stored()) == kept
    assert kept.to_stored()["keys"] == [
        {"limit": 2, "name": "c/{{ params.c }}", "rate": "10/s"},
        {"limit": 1, "name": "lock"},
    ]
    assert set(kept.bounds()) == {"action:job", "c/{{ params.c }}", "lock"}
    assert action().checksum() != kept.checksum()


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ({"limit": 1}, {"limit": 1}, True),
        ({"limit": 1}, {"limit": 2}, False),
        ({"limit": 1}, {}, False),
        ({"rate": "60/m"}, {"rate": "1/s"}, True),
        ({"rate": "1/s"}, {"rate": "1/s", "burst": 1}, True),
        ({"rate": "1/s"}, {"rate": "1/s", "burst": 2}, False),
        ({"cap": 3}, {"cap": 3, "cap_policy": "drop_oldest"}, False),
    ],
)
def test_two_actions_that_share_a_key_bound_it_alike_or_are_told(
    one: dict[str, Any], other: dict[str, Any], *, agree: bool
) -> None:
    lines = disagreements(
        [
            action({"name": "lock", **one}, action="first"),
            action(action="between"),
            action({"name": "lock", **other}, {"name": "own"}, action="second"),
        ]
    )
    expected = (
        'the key "lock" is bounded differently in first and second; '
        "it is one key: give it the same limit, rate and cap in both"
    )
    assert lines == ([] if agree else [expected])


def test_each_key_that_differs_is_told_once_against_the_first_that_names_it() -> None:
    actions = [action({"name": "x", "limit": n}, {"name": "y", "limit": 1}, action=f"a{n}") for n in (1, 2, 1, 3)]
    lines = disagreements(actions)
    assert [line.split(";")[0] for line in lines] == [
        'the key "x" is bounded differently in a1 and a2',
        'the key "x" is bounded differently in a1 and a3',
    ]


def test_the_own_limits_of_two_actions_are_two_keys() -> None:
    assert disagreements([action(action="a", limit=1), action(action="b", limit=2)]) == []


def test_templates_become_names_in_their_order() -> None:
    names = rendered("lock", "c/{{ params.customer }}", "r/{{ params.region | upper }}", customer=7, region="eu")
    assert names == [("lock", 1), ("c/7", 2), ("r/EU", 3)]
    assert rendered() == []


@pytest.mark.parametrize(("value", "name"), [(True, "c/true"), (1.0, "c/1"), (0.5, "c/0.5"), ("", "c/"), ("ü", "c/ü")])
def test_a_value_becomes_its_text(value: object, name: str) -> None:
    assert rendered("c/{{ params.v }}", v=value) == [(name, 1)]


def test_two_templates_that_come_out_alike_are_one_key_bounded_by_the_first() -> None:
    assert rendered("c/{{ params.a }}", "c/{{ params.b }}", "d", a=1, b="1") == [("c/1", 1), ("d", 3)]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"v": None}, "the value is null, which has no text; give it another with the filter default"),
        ({}, "params.v is not given"),
        ({"v": ""}, "a key's name cannot be empty or blank"),
        ({"v": "  "}, "a key's name cannot be empty or blank"),
        ({"v": "x" * 256}, "a key's name has 1 to 255 characters, this one 256"),
        ({"v": "a\nb"}, "a key's name is one printable line; leave out line breaks and control characters"),
        ({"v": "a\x7fb"}, "a key's name is one printable line; leave out line breaks and control characters"),
        ({"v": "a\0"}, "the text holds a NUL character"),
        ({"v": "\ud800"}, "the text holds half of a character"),
        ({"v": [1]}, "the value is a list, which is not one text"),
        ({"v": {"a": 1}}, "the value is an object, which is not one text"),
        ({"v": "action:other"}, 'a key cannot begin with "action:"'),
        ({"v": "key:other"}, 'a key cannot begin with "key:"'),
        ({"v": "batch:other"}, 'a key cannot begin with "batch:"'),
    ],
)
def test_a_value_that_cannot_be_a_key_is_refused_at_the_name_of_its_key(params: dict[str, Any], reason: str) -> None:
    for place, names in enumerate((["{{ params.v }}"], ["sound", "{{ params.v }}"])):
        with pytest.raises(InvalidParams) as refused:
            rendered(*names, **params)
        # What no parameter may hold is refused before any template looks at it.
        first = 0 if "NUL" in reason or "half" in reason else place
        assert str(refused.value).startswith(f"keys[{first}].name: {reason}"), str(refused.value)
