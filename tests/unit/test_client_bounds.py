"""What a change makes of a key's bounds, what definitions say of a name, and percentiles from buckets. No database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from interlock.client.bounds import InvalidBounds, columns_of, declared, rate_text
from interlock.client.queues import percentile
from interlock.contract.definitions import Action
from interlock.contract.keys import rate_seconds

if TYPE_CHECKING:
    from interlock.client.bounds import Change

OPEN: dict[str, Any] = {"lim": None, "rate_every": None, "rate_burst": 1, "cap": None, "cap_policy": "reject"}
RATED = OPEN | {"rate_every": 0.5, "rate_burst": 4}
CAPPED = OPEN | {"cap": 10, "cap_policy": "drop_oldest"}


@pytest.mark.parametrize(
    ("row", "change", "columns"),
    [
        (OPEN, {"limit": 3}, {"lim": 3}),
        (RATED, {"limit": None}, {"lim": None}),
        (OPEN, {"rate": "2/s"}, {"rate_every": 0.5, "rate_burst": 1}),
        (OPEN, {"rate": "1000/s"}, {"rate_every": 0.001, "rate_burst": 10}),
        (OPEN, {"rate": "1/m", "burst": 5}, {"rate_every": 60.0, "rate_burst": 5}),
        (RATED, {"rate": "1/s"}, {"rate_every": 1.0, "rate_burst": 1}),
        (RATED, {"burst": 9}, {"rate_burst": 9}),
        (RATED, {"burst": None}, {"rate_burst": 1}),
        (RATED, {"rate": None}, {"rate_every": None, "rate_burst": 1}),
        (OPEN, {"cap": 7}, {"cap": 7}),
        (CAPPED, {"cap": 7}, {"cap": 7}),
        (CAPPED, {"cap": None}, {"cap": None, "cap_policy": "reject"}),
        (CAPPED, {"cap_policy": "reject"}, {"cap_policy": "reject"}),
        (OPEN, {"cap": 0, "cap_policy": "drop_oldest"}, {"cap": 0, "cap_policy": "drop_oldest"}),
    ],
)
def test_a_change_sets_what_it_names_and_what_belongs_to_that(
    row: dict[str, Any], change: Change, columns: dict[str, object]
) -> None:
    assert columns_of(change, row) == columns


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (OPEN, {"limit": -1}, "limit: input should be greater than or equal to 0; found -1"),
        (OPEN, {"limit": "3"}, "limit: must be a whole number, found '3'"),
        (OPEN, {"rate": "often"}, 'rate: "often" is not a rate; write a number per time: 10/s, 100/m or 5/10s'),
        (OPEN, {"burst": 3}, "burst is how many a rate lets through at once; give the rate, too, such as `rate: 10/s`"),
        (RATED, {"rate": None, "burst": 3}, "burst is how many a rate lets through at once; give the rate, too"),
        (OPEN, {"cap_policy": "drop_oldest"}, "cap_policy says what happens beyond a cap; give the cap, too"),
        (CAPPED, {"cap": None, "cap_policy": "drop_oldest"}, "cap_policy says what happens beyond a cap"),
        (CAPPED, {"cap_policy": "rejekt"}, "cap_policy: 'rejekt' is not one of reject, drop_oldest; did you mean"),
    ],
)
def test_bounds_that_a_key_cannot_have_are_refused_in_words(row: dict[str, Any], change: Any, message: str) -> None:  # noqa: ANN401 - wrong on purpose
    with pytest.raises(InvalidBounds) as caught:
        columns_of(change, row)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("every", "text"),
    [
        (0.1, "10/s"),
        (1 / 3, "3/s"),
        (0.001, "1000/s"),
        (0.3, "200/m"),
        (2.0, "30/m"),
        (60.0, "1/m"),
        (5400.0, "16/d"),
        (0.0123, "1/0.0123s"),
        (864_000.0, "1/864000s"),
    ],
)
def test_a_rate_is_written_as_a_definition_would_and_read_back_the_same(every: float, text: str) -> None:
    assert rate_text(every) == text
    assert rate_seconds(text) == pytest.approx(every, rel=1e-9)


def action(name: str, *keys: dict[str, Any], **fields: object) -> Action:
    return Action.model_validate({"action": name, "command": ["true"], "keys": keys, **fields})


ACTIONS = [
    action("checksum", {"name": "customer/{{ params.customer }}", "limit": 5}, limit=3),
    action("copy", {"name": "disk", "limit": 1}, {"name": "customer/vip-{{ params.customer }}", "limit": 9}),
    action("plain"),
]


@pytest.mark.parametrize(
    ("name", "template", "limit"),
    [
        ("action:checksum", "action:checksum", 3),
        ("action:plain", "action:plain", None),
        ("customer/42", "customer/{{ params.customer }}", 5),
        ("customer/a/b", "customer/{{ params.customer }}", 5),
        ("customer/vip-1", "customer/vip-{{ params.customer }}", 9),
        ("disk", "disk", 1),
    ],
)
def test_definitions_say_what_bounds_a_name_that_comes_out_of_their_templates(
    name: str, template: str, limit: int | None
) -> None:
    found = declared(name, ACTIONS)
    assert found is not None
    assert (found.template, found.bounds.limit) == (template, limit)


@pytest.mark.parametrize("name", ["action:other", "customers/42", "disk2", "adisk", "key:customer/42"])
def test_what_no_definition_names_is_not_declared(name: str) -> None:
    assert declared(name, ACTIONS) is None


def test_a_template_that_is_all_parameter_is_never_a_reserved_name() -> None:
    lock = [action("lock", {"name": "{{ params.lock }}", "limit": 1})]
    assert declared("anything", lock) is not None
    assert declared("key:anything", lock) is None


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        ({}, (None, None, None)),
        ({0: 1}, (0.001, 0.001, 0.001)),
        ({0: 50, 5: 45, 10: 4, 20: 1}, (0.001, 0.032, 1.024)),
        ({3: 49, 4: 51}, (0.016, 0.016, 0.016)),
        ({3: 98, 40: 2}, (0.008, 0.008, 2.0**40 / 1000)),
    ],
)
def test_a_percentile_is_the_upper_end_of_the_bucket_that_holds_it(
    waits: dict[int, int], expected: tuple[float | None, ...]
) -> None:
    assert tuple(percentile(waits, percent) for percent in (50, 95, 99)) == expected
