"""Functions of the tests about retries: each fails at first, in its own way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlock import RetryAfter

if TYPE_CHECKING:
    from interlock.results import Context


class Busy(ConnectionError):
    """An error of the user's own, of a kind that Python knows."""


async def ask_again(seconds: float, context: Context) -> int:
    """Ask for a second attempt in that long; return its number."""
    if context.attempt == 1:
        raise RetryAfter(seconds, "the quota is used up")
    return context.attempt


def connect(context: Context) -> int:
    """Fail once as a network would."""
    if context.attempt == 1:
        raise Busy("no answer")
    return context.attempt


def divide(context: Context) -> float:
    """Fail in a way that will not pass."""
    return context.attempt / 0
