"""Whether an attempt is made again, and when: the policy of a definition against the ways an attempt may end."""

from __future__ import annotations

from typing import Any

import pytest

from interlock import RetryAfter
from interlock.contract.definitions import Action, Retry
from interlock.contract.status import Status
from worker.outcome import Outcome, failed
from worker.retry import retry_delay

HTTP = failed("HttpStatus", "busy", kinds=("HttpStatus/503", "HttpStatus/5xx"))
REFUSED = failed("ConnectionRefusedError", "no", kinds=("ConnectionError", "OSError", "Exception", "BaseException"))
FOREIGN = failed("requests.exceptions.ReadTimeout", "late", kinds=("requests.exceptions.Timeout", "OSError"))
EXIT = failed("ExitCode", "exited with 75", kinds=("ExitCode/75",))
TIMED_OUT = Outcome(status=Status.TIMED_OUT, failure=failed("RunTimeout", "late").failure)


def delay(outcome: Outcome, failures: int = 0, draw: float = 0.0, **policy: Any) -> float | None:  # noqa: ANN401 - the fields of a policy
    return retry_delay(Retry.model_validate({"max_attempts": 3, **policy}), outcome, failures, draw)


def test_attempts_are_counted_with_the_first_one() -> None:
    assert [delay(HTTP, failures) for failures in range(4)] == [1.0, 2.0, None, None]
    assert delay(HTTP, max_attempts=1) is None


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.PARTIAL, Status.SKIPPED, Status.CANCELLED])
def test_what_did_not_go_wrong_is_not_made_again(status: Status) -> None:
    assert delay(Outcome(status=status)) is None


@pytest.mark.parametrize(
    ("on", "again"),
    [(["failed"], (True, False)), (["timed_out"], (False, True)), (["failed", "timed_out"], (True, True))],
)
def test_on_chooses_among_outcomes(on: list[str], again: tuple[bool, bool]) -> None:
    assert (delay(HTTP, on=on) is not None, delay(TIMED_OUT, on=on) is not None) == again


@pytest.mark.parametrize(
    ("outcome", "name", "meant"),
    [
        (HTTP, "HttpStatus", True),
        (HTTP, "HttpStatus/503", True),
        (HTTP, "HttpStatus/5xx", True),
        (HTTP, "HttpStatus/4xx", False),
        (HTTP, "HttpStatus/429", False),
        (EXIT, "ExitCode/75", True),
        (EXIT, "ExitCode/7", False),
        (REFUSED, "ConnectionRefusedError", True),
        (REFUSED, "ConnectionError", True),
        (REFUSED, "OSError", True),
        (REFUSED, "Error", False),
        (FOREIGN, "requests.exceptions.ReadTimeout", True),
        (FOREIGN, "ReadTimeout", True),
        (FOREIGN, "exceptions.Timeout", True),
        (FOREIGN, "httpx.ReadTimeout", False),
    ],
)
def test_an_error_is_named_by_its_class_the_end_of_it_or_anything_it_is_a_case_of(
    outcome: Outcome,
    name: str,
    meant: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    assert (delay(outcome, errors=[name]) is not None) is meant
    assert (delay(outcome, not_errors=[name]) is not None) is not meant


def test_what_is_excluded_stays_excluded_from_a_wider_class() -> None:
    policy: dict[str, Any] = {"errors": ["HttpStatus", "OSError"], "not_errors": ["HttpStatus/503", "ConnectionError"]}
    assert [delay(outcome, **policy) is not None for outcome in (HTTP, REFUSED, FOREIGN, EXIT)] == [
        False,
        False,
        True,
        False,
    ]


def test_classes_of_errors_do_not_judge_what_timed_out() -> None:
    assert delay(TIMED_OUT, errors=["ConnectionError"], not_errors=["RunTimeout"]) == 1.0


def test_who_asks_for_a_time_gets_it_within_the_longest_delay() -> None:
    def asked(seconds: float, **policy: Any) -> float | None:  # noqa: ANN401 - the fields of a policy
        return delay(failed("HttpStatus", "busy", retry_after=seconds), draw=1.0, **policy)

    assert asked(30.0, jitter=1.0) == 30.0
    assert asked(0.0, delay=10) == 0.0
    assert asked(3600.0) == 300.0
    assert asked(3600.0, max_delay="2h") == 3600.0
    # It says when, never whether.
    assert asked(30.0, max_attempts=1) is None
    assert asked(30.0, errors=["ConnectionError"]) is None


def test_an_action_that_asks_for_another_attempt_is_not_judged_by_classes_of_errors() -> None:
    asked = failed("RetryAfter", "quota", kinds=("Exception",), retry_after=5.0)
    own = failed("shop.Quota", "quota", kinds=("RetryAfter", "Exception"), retry_after=5.0)
    assert [delay(outcome, errors=["OSError"], not_errors=["Exception"]) for outcome in (asked, own)] == [5.0, 5.0]
    assert delay(asked, on=["timed_out"]) is None
    assert delay(asked, failures=2) is None


def test_lists_of_errors_mean_the_same_in_any_order() -> None:
    one, other = (
        Action.model_validate({"action": "a", "command": ["x"], "retry": {"errors": names}})
        for names in (["B", "A", "B"], ["A", "B"])
    )
    assert one.canonical() == other.canonical() == '{"action":"a","command":["x"],"retry":{"errors":["A","B"]}}'
    assert Action.from_stored(one.to_stored()) == other


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_no_length_of_time_cannot_be_asked_for(seconds: float) -> None:
    with pytest.raises(ValueError, match="is no length of time"):
        RetryAfter(seconds)
