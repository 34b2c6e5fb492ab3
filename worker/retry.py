"""Whether a failed attempt is made again, and when. Pure: randomness is a parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlock.contract.definitions import Retry
    from interlock.contract.status import Status


def retry_delay(policy: Retry, status: Status, failures: int, jitter: float) -> float | None:
    """Seconds until the next attempt, or None for no more. `failures` counts those before this one."""
    if status not in policy.on or failures + 1 >= policy.max_attempts:
        return None
    return policy.delay_before(failures + 1, jitter)
