"""The stage for tests of the database's own rules; whatever a test did to it, the invariants must hold afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.world import World, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """A database with the action `job` and one worker of 100 places; audited at the end of the test."""
    async with opened(database_url) as world:
        await world.register()
        world.hand = await world.worker()
        yield world
        await world.audit()
