"""What may be stored of a result and of a failure."""

from __future__ import annotations

from enum import Enum
from typing import Any

import orjson
import pytest

from interlock.contract.status import Status
from interlock.results import partial, skip
from worker.outcome import (
    MESSAGE_LIMIT,
    RESULT_LIMIT,
    TRACEBACK_LIMIT,
    Outcome,
    Unstorable,
    bounded,
    encode_result,
    failed,
    fingerprint,
    settle,
    storable,
)


class Colour(Enum):
    NONE = None
    BROKEN = float("nan")


def _error(outcome: Outcome) -> tuple[str, str]:
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    return outcome.failure.error_class, outcome.failure.message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ({"a": [1, None, "é"]}, '{"a":[1,null,"é"]}'),
        ((1, 2), "[1,2]"),
        (Colour.NONE, "null"),
        ("\\u0000", '"\\\\u0000"'),
        ("\\\\u0000", '"\\\\\\\\u0000"'),
    ],
)
def test_a_json_value_is_encoded_as_it_is(value: object, text: str) -> None:
    assert encode_result(value) == text


@pytest.mark.parametrize(
    ("value", "error_class", "part"),
    [
        ({"rows": [{"name": "a\0b"}]}, "ResultNotStorable", "result.rows[0].name has a NUL character"),
        ({"a\0": 1}, "ResultNotStorable", "a key of result has a NUL character"),
        ("\\\0", "ResultNotStorable", "result has a NUL character"),
        (["\ud800"], "ResultNotStorable", "result[0] has half of a surrogate pair"),
        ({"a": None, "b": float("nan")}, "ResultNotJson", "result.b is NaN or infinite"),
        ([[float("-inf")]], "ResultNotJson", "result[0][0] is NaN or infinite"),
        (Colour.BROKEN, "ResultNotJson", "result is NaN or infinite"),
        ({1: 2}, "ResultNotJson", "Dict key must be str"),
        ({"a": object()}, "ResultNotJson", "not JSON serializable"),
        (2**64, "ResultNotJson", "64-bit"),
        ("x" * RESULT_LIMIT, "ResultTooLarge", "1,048,578 bytes of JSON, the limit is 1,048,576"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name_and_place(value: object, error_class: str, part: str) -> None:
    with pytest.raises(Unstorable) as refusal:
        encode_result(value)
    assert refusal.value.error_class == error_class
    assert part in str(refusal.value)


def test_a_result_of_exactly_the_limit_is_stored() -> None:
    assert len(encode_result("x" * (RESULT_LIMIT - 2))) == RESULT_LIMIT


def test_a_result_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(Unstorable) as refusal:
        encode_result(value)
    assert refusal.value.error_class == "ResultNotJson"


def test_a_value_is_completed() -> None:
    assert settle({"a": 1}) == Outcome(status=Status.COMPLETED, result={"a": 1}, result_json='{"a":1}')


def test_a_partial_keeps_its_counts_and_what_to_retry() -> None:
    outcome = settle(partial("x", total=3, completed=1, failed=2, retry=["b", "c"]))
    assert outcome.status is Status.PARTIAL
    assert orjson.loads(outcome.result_json or "") == {
        "result": "x",
        "items": {"total": 3, "completed": 1, "failed": 2},
        "retry": ["b", "c"],
    }


def test_a_partial_without_counts_has_none() -> None:
    assert settle(partial(None)).result == {"result": None, "items": {}}


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"failed": -1}, "partial(): failed is -1; a count is at least 0"),
        (
            {"total": 2, "completed": 2, "failed": 1},
            "partial(): completed, failed and skipped are 3 together, more than the total 2",
        ),
    ],
)
def test_counts_that_cannot_be_are_refused_where_they_are_said(counts: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match="partial") as error:
        partial(None, **counts)  # type: ignore[arg-type] # a dict of counts only
    assert str(error.value) == text


def test_a_skip_keeps_its_reason_storable() -> None:
    outcome = settle(skip("nothing\0new"))
    assert (outcome.status, outcome.result) == (Status.SKIPPED, {"reason": "nothing\u2400new"})


def test_a_result_that_cannot_be_stored_fails_and_keeps_the_exit_code() -> None:
    outcome = settle("\0", exit_code=0)
    assert _error(outcome) == ("ResultNotStorable", "result has a NUL character: remove or encode it")
    assert outcome.exit_code == 0


def test_a_failure_is_made_storable_and_bounded() -> None:
    outcome = failed("E\0", "a\0\ud800" + "x" * 10_000, traceback="t\0" * 20_000)
    assert outcome.failure is not None
    assert outcome.failure.error_class == "E\u2400"
    assert outcome.failure.message.startswith("a\u2400\ufffdxxx")
    assert len(outcome.failure.message) <= MESSAGE_LIMIT
    assert outcome.failure.traceback is not None
    assert len(outcome.failure.traceback) <= TRACEBACK_LIMIT
    assert "\0" not in outcome.failure.traceback


def test_bounding_keeps_head_and_tail() -> None:
    text = bounded("head" + "x" * 1000 + "tail", 100)
    assert len(text) <= 100
    assert text.startswith("head")
    assert text.endswith("tail")
    assert "908 characters left out" in text


def test_storable_text_is_left_alone() -> None:
    assert storable("plain é 🙂") == "plain é 🙂"


def test_failures_that_differ_in_numbers_and_ids_look_the_same() -> None:
    one = fingerprint("E", "row 17 of 3f0c9a1b2c at 0xdeadbeef, 0198c0de-0000-7000-8000-000000000001", "f.py:run")
    two = fingerprint("E", "row 2 of aaaabbbbcc at 0x1, 0198c0de-ffff-7abc-9def-123456789abc", "f.py:run")
    assert one == two
    assert len(one) == 16


@pytest.mark.parametrize("other", [("F", "m", "l"), ("E", "n", "l"), ("E", "m", "k")])
def test_another_class_message_or_place_is_another_failure(other: tuple[str, str, str]) -> None:
    assert fingerprint(*other) != fingerprint("E", "m", "l")
