"""The action that is measured: nothing."""

from __future__ import annotations


async def noop() -> None:
    """Do nothing; what remains is the product."""
