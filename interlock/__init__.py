"""Interlock: a durable execution daemon whose statuses never lie."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlock.actions.decorators import action as action
    from interlock.results import RetryAfter as RetryAfter
    from interlock.results import partial as partial
    from interlock.results import skip as skip

__version__ = "0.1.0"
__all__ = ["RetryAfter", "__version__", "action", "partial", "skip"]

_EXPORTS = {
    "RetryAfter": "interlock.results",
    "action": "interlock.actions.decorators",
    "partial": "interlock.results",
    "skip": "interlock.results",
}


def __getattr__(name: str) -> object:
    """Import an export when it is first used, so that importing `interlock` alone costs nothing."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
