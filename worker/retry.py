"""Whether a failed attempt is made again, and when. Pure: randomness is a parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from interlock.contract.status import Status

if TYPE_CHECKING:
    from interlock.contract.definitions import Retry
    from worker.outcome import Outcome

ASKED: Final = "RetryAfter"
"""The class of a failure that itself asks for another attempt: lists of error classes do not judge it."""


def retry_delay(policy: Retry, outcome: Outcome, failures: int, jitter: float) -> float | None:
    """Seconds until the next attempt, or None for no more. `failures` counts those before this one.

    Whoever asks for a time gets that one instead of the policy's, within its `max_delay`; it says when, never whether.
    """
    if outcome.status not in policy.on or failures + 1 >= policy.max_attempts:
        return None
    if outcome.status is Status.FAILED and not _is_wanted(policy, outcome):
        return None
    if outcome.retry_after is not None:
        return min(outcome.retry_after, policy.max_delay)
    return policy.delay_before(failures + 1, jitter)


def _is_wanted(policy: Retry, outcome: Outcome) -> bool:
    failure = outcome.failure
    return failure is None or ASKED in failure.kinds or policy.wants(failure.kinds)
