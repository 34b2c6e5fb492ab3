"""Restarting with a plan that is made anew: the difference is exact, a look changes nothing, and it is applied once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from interlock.client.batch_records import Choice, Replanned
from interlock.client.batches import NotRestartable
from interlock.contract.identity import child_id
from interlock.contract.status import Status
from tests.attempts import claim, finish
from tests.batches import counts, drives, end, status
from tests.replans import stage
from worker import planning
from worker.outcome import failed

if TYPE_CHECKING:
    from tests.world import World

CHUNK = 4


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "CHUNK", CHUNK)


async def test_the_difference_is_exact_and_a_look_changes_nothing(world: World) -> None:
    async with stage(world) as it:
        await it.ended([*range(10)], **{"3": "failed"})
        before = await it.rows()
        preview = await it.looked_at([12, *range(3, 10), 11])
        found = await it.client.difference(it.batch, preview)
        assert (found.new.partitions, found.new.keys) == (2, ("12", "11"))
        assert (found.gone.partitions, found.gone.keys) == (3, ("0", "1", "2"))
        assert (found.same.partitions, found.same.keys) == (7, ("3", "4", "5", "6", "7", "8", "9"))
        assert (found.again.partitions, found.changed.partitions, found.made) == (0, 0, 2)
        found = await it.client.difference(it.batch, preview, Choice(statuses=(Status.FAILED,)))
        assert (found.again.partitions, found.again.keys, found.made) == (1, ("3",), 3)
        assert await it.rows() == before
        assert await it.broken() == []


async def test_only_so_many_keys_are_told_of_each(world: World) -> None:
    async with stage(world) as it:
        await it.ended([*range(10, 30)])
        preview = await it.looked_at([*range(50, 90)])
        found = await it.client.difference(it.batch, preview)
        assert (found.new.partitions, found.new.keys) == (40, tuple(map(str, range(50, 60))))
        assert (found.gone.partitions, found.gone.keys) == (20, tuple(map(str, range(10, 20))))


async def test_what_is_new_is_made_what_is_gone_does_not_count_and_what_stayed_is_kept(world: World) -> None:
    async with stage(world) as it:
        await it.ended([*range(10)], **{"3": "failed", "4": "failed", "0": "failed"})
        before = await it.present()
        preview = await it.looked_at([*range(20, 26), *range(2, 10)])
        done = await it.client.replan(it.batch, preview, Choice(statuses=None, keys=("3",)))
        assert (done.made, done.gone) == (7, 2)
        assert await it.broken() == []
        assert await counts(world, it.batch) == {"total": 7, "completed": 6, "failed": 1}
        second = child_id(it.batch, 2, "$plan")
        it.plan = ["the planner is not asked again"]
        assert (await it.plans(second)).result == {"partitions": 7}
        assert await it.broken() == []
        assert await counts(world, it.batch) == {"total": 14, "completed": 6, "failed": 1}
        after = await it.present()
        made = [*map(str, range(20, 26)), "3"]
        assert set(after) == {*made, "2", *map(str, range(4, 10))}
        assert {key for key in after if after[key] != before.get(key)} == set(made)
        rows = await world.tx.fetch("SELECT child_key, superseded_by FROM execution WHERE superseded_by IS NOT NULL")
        fates = {row["child_key"]: row["superseded_by"] for row in rows}
        assert fates == {"0": second, "1": second, "3": after["3"]}
        params = await world.tx.fetchval("SELECT params::text FROM execution WHERE id = $1", after["25"])
        assert params == '{"item": 25}'
        await world.limit(f"batch:{it.batch}", None)
        for key in made:
            await end(world, after[key])
        await drives(world, it.batch)
        assert await status(world, it.batch) == "partial"
        assert await counts(world, it.batch) == {"total": 14, "completed": 13, "failed": 1}
        # A restart of the next epoch takes what it chose, and nothing of a plan of before.
        assert await it.client.restart(it.batch) == 1
        assert (await it.plans(child_id(it.batch, 3, "$plan"))).result == {"partitions": 1}
        assert await counts(world, it.batch) == {"total": 14, "completed": 13}


async def test_a_batch_of_which_all_is_gone_ends_empty(world: World) -> None:
    async with stage(world, outcome={"fail_on_empty": True}) as it:
        await it.ended([1, 2])
        preview = await it.looked_at([])
        assert await it.client.replan(it.batch, preview) == Replanned(made=0, gone=2)
        assert await it.broken() == []
        await it.plans(child_id(it.batch, 2, "$plan"))
        await drives(world, it.batch)
        assert await status(world, it.batch) == "failed"
        assert await counts(world, it.batch) == {}


async def test_the_same_plan_is_nothing_to_do(world: World) -> None:
    async with stage(world) as it:
        await it.ended([1, 2, 3])
        before = await it.rows()
        preview = await it.looked_at([3, 2, 1])
        assert await it.client.replan(it.batch, preview) == Replanned(made=0, gone=0)
        assert await it.rows() == before


async def test_of_many_who_apply_a_plan_one_does(world: World) -> None:
    async with stage(world) as it:
        await it.ended([*range(6)])
        preview = await it.looked_at([*range(3, 9)])
        ends = await asyncio.gather(*(it.client.replan(it.batch, preview) for _ in range(4)), return_exceptions=True)
        assert [done for done in ends if not isinstance(done, BaseException)] == [Replanned(made=3, gone=3)]
        assert [type(refused) for refused in ends if isinstance(refused, BaseException)] == [NotRestartable] * 3
        assert await world.tx.fetchval("SELECT epoch FROM batch") == 2
        await it.plans(child_id(it.batch, 2, "$plan"))
        assert await counts(world, it.batch) == {"total": 6, "completed": 3}
        assert await it.broken() == []


async def test_a_restart_meanwhile_makes_a_plan_that_was_looked_at_void(world: World) -> None:
    async with stage(world) as it:
        await it.ended([1, 2, 3], **{"2": "failed"})
        preview = await it.looked_at([3, 4])
        assert await it.client.restart(it.batch) == 1
        with pytest.raises(NotRestartable, match="is running"):
            await it.client.replan(it.batch, preview)
        await it.plans(child_id(it.batch, 2, "$plan"))
        await end(world, child_id(it.batch, 2, "2"))
        await drives(world, it.batch)
        before = await it.rows()
        for refused in (it.client.replan, it.client.difference):
            with pytest.raises(NotRestartable, match="was restarted since the plan"):
                await refused(it.batch, preview)
        assert await it.rows() == before


async def test_the_database_itself_refuses_a_plan_of_a_former_epoch(world: World) -> None:
    async with stage(world) as it:
        await it.ended([1, 2])
        preview = await it.looked_at([2, 3])
        await world.tx.execute("UPDATE batch_preview SET epoch = 7")
        with pytest.raises(asyncpg.SerializationError, match="planned anew meanwhile"):
            await world.tx.fetch(
                "SELECT replan_batch($1, 1, $2, '{}', NULL, NULL, $3, 'default', 0, NULL, 'why', '/test')",
                it.batch,
                preview,
                child_id(it.batch, 2, "$plan"),
            )
        assert await counts(world, it.batch) == {"total": 2, "completed": 2}


async def test_a_plan_that_was_asked_for_again_is_forgotten(world: World) -> None:
    async with stage(world) as it:
        await it.ended([1, 2])
        first = await it.looked_at([1])
        second = await it.client.plan_anew(it.batch)
        with pytest.raises(NotRestartable, match="is not the plan that was last made anew"):
            await it.client.replan(it.batch, first)
        with pytest.raises(NotRestartable, match="is not whole"):
            await it.client.replan(it.batch, second)
        third = await it.client.plan_anew(it.batch)
        outcome = await it.plans(second)
        assert outcome.failure is not None
        assert outcome.failure.error_class == "BatchEnded"
        await it.plans(third)
        assert await world.tx.fetchval("SELECT count(DISTINCT plan_id) FROM batch_preview_key") == 1
        assert await counts(world, it.batch) == {"total": 2, "completed": 2}


async def test_a_planner_that_fails_leaves_the_batch_as_it_was(world: World) -> None:
    async with stage(world) as it:
        await it.ended([1, 2], **{"2": "failed"})
        before = await it.rows()
        for plan, outcome, error in (
            ([], failed("ExitCode", "exited with 1"), "ExitCode"),
            ([*range(9), 1], None, "DuplicatePartition"),
            ([3, 3], None, "DuplicatePartition"),
            (["a\0b"], None, "invalid_params"),
        ):
            it.plan, it.outcome = plan, outcome
            preview = await it.client.plan_anew(it.batch)
            assert (await it.plans(preview)).failure.error_class == error  # type: ignore[union-attr]
            with pytest.raises(NotRestartable, match="is not whole"):
                await it.client.replan(it.batch, preview)
        await drives(world, it.batch)
        assert await it.rows() == before
        assert await it.broken() == []


class Stopped(BaseException):
    """The worker dies here."""


async def test_a_look_is_planned_on_by_another_attempt_and_by_none_without_the_fence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(world) as it:
        await it.ended([1])
        it.plan = [*range(11)]
        preview = await it.client.plan_anew(it.batch)
        assert preview in await claim(world, preview)

        async def dies(_point: str) -> None:
            raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(planning, "reached", dies)
            with pytest.raises(Stopped):
                await it.attempt(preview)
        assert await finish(world, preview, "requested", outcome="handed_back") == "requested"
        await world.admit(entering=[preview])
        assert preview in await claim(world, preview, attempt=2)
        stale = await it.attempt(preview, 1)
        assert stale.failure is not None
        assert stale.failure.error_class == "BatchEnded"
        assert await world.tx.fetchval("SELECT count(*) FROM batch_preview_key") == CHUNK
        assert (await it.attempt(preview, 2)).result == {"partitions": 11}
        assert await finish(world, preview, "completed", attempt=2) == "completed"
        rows = await world.tx.fetch("SELECT child_key FROM batch_preview_key ORDER BY position")
        assert [row["child_key"] for row in rows] == [str(n) for n in range(11)]


async def test_other_parameters_under_the_same_key_are_told_and_taken_by_what_is_made_again(world: World) -> None:
    async with stage(world, key="{{ item.name }}") as it:
        await it.ended([{"name": "a", "n": 1}, {"name": "b", "n": 1}, {"name": "c", "n": 1}], b="failed")
        preview = await it.looked_at([{"name": "a", "n": 2}, {"name": "b", "n": 2}, {"name": "c", "n": 1}])
        found = await it.client.difference(it.batch, preview)
        assert (found.same.partitions, found.changed.partitions, found.changed.keys) == (3, 2, ("a", "b"))
        await it.client.replan(it.batch, preview, Choice(statuses=(Status.FAILED,)))
        await it.plans(child_id(it.batch, 2, "$plan"))
        rows = await world.tx.fetch(
            "SELECT child_key, params #>> '{item,n}' AS n FROM execution"
            " WHERE parent_id = $1 AND child_key <> '$plan' AND superseded_by IS NULL ORDER BY 1",
            it.batch,
        )
        assert [tuple(row) for row in rows] == [("a", "1"), ("b", "2"), ("c", "1")]


async def test_a_worker_of_the_former_epoch_is_refused(world: World) -> None:
    async with stage(world) as it:
        await it.ended([1, 2])
        gone = (await it.present())["1"]
        preview = await it.looked_at([2])
        await it.client.replan(it.batch, preview)
        assert await finish(world, gone, "failed") is None
        assert await finish(world, child_id(it.batch, 1, "$plan"), "failed") is None
        # A planning of before, which thinks that it holds its fence, adds nothing.
        await it.attempt(child_id(it.batch, 1, "$plan"))
        await it.attempt(preview)
        assert await counts(world, it.batch) == {"total": 1, "completed": 1}


async def test_what_cannot_be_planned_anew_says_so(world: World) -> None:
    async with stage(world) as it:
        with pytest.raises(NotRestartable, match="is running: cancel it, or wait for its end"):
            await it.client.plan_anew(it.batch)
    async with stage(world, sealed=False) as it:
        await it.ended([1])
        assert await it.client.seal(it.batch)
        await drives(world, it.batch)
        with pytest.raises(NotRestartable, match="is an open one: what was added to it is in no plan"):
            await it.client.plan_anew(it.batch)


async def test_a_batch_whose_plan_failed_is_planned_anew(world: World) -> None:
    async with stage(world) as it:
        it.outcome = failed("ExitCode", "exited with 1")
        await it.plans(child_id(it.batch, 1, "$plan"))
        await drives(world, it.batch)
        await drives(world, it.batch)
        assert await status(world, it.batch) == "failed"
        it.outcome = None
        preview = await it.looked_at([1, 2])
        assert await it.client.replan(it.batch, preview) == Replanned(made=2, gone=0)
        await it.plans(child_id(it.batch, 2, "$plan"))
        assert await counts(world, it.batch) == {"total": 2}
        assert await it.broken() == []
