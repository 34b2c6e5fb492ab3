"""Whom the executor believes when a row stands behind a message: only the worker that can have made the move."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from executor import store
from interlock.contract.status import Status
from tests.attempts import claim

if TYPE_CHECKING:
    from tests.world import World


@pytest.mark.parametrize(
    "actor", ["/forger", "/worker/", "/worker/x", '/worker/","data":{', "/executor/{}", "/worker/{} "]
)
async def test_a_claim_that_no_worker_can_have_made_is_not_believed(world: World, actor: str) -> None:
    (identity,) = await world.submit()
    move = store.LostMove(
        id=identity, attempt=1, source=Status.SCHEDULED, target=Status.RUNNING, actor=actor.replace("{}", str(uuid4()))
    )
    assert await store.catch_up(world.tx, [move]) == ([], [])
    assert await world.statuses([identity]) == ["scheduled"]


@pytest.mark.parametrize("target", [Status.COMPLETED, Status.FAILED, Status.REQUESTED])
async def test_what_one_worker_runs_is_not_ended_by_the_word_of_another(world: World, target: Status) -> None:
    (identity,) = await world.submit()
    await claim(world, identity)
    for actor in (f"/worker/{uuid4()}", "/forger"):
        move = store.LostMove(id=identity, attempt=1, source=Status.RUNNING, target=target, actor=actor)
        assert await store.catch_up(world.tx, [move]) == ([], [])
    assert await world.statuses([identity]) == ["running"]
