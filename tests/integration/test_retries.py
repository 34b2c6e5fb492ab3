"""Retries between the worker's end and the executor's admission: slots, order, and what is counted as what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from interlock.contract.status import Status
from tests.attempts import claim, finish
from tests.cli import Interlock, interlock_on

if TYPE_CHECKING:
    from uuid import UUID

    from tests.world import World

JOB = "action:job"


@pytest.fixture
def interlock(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Interlock:
    """Run one command on the stage; returns its exit code and what it said."""
    return interlock_on(world.url, monkeypatch, capsys)


async def wait_is_over(world: World, identity: UUID) -> None:
    """Let the time of a retry come, and enter it as the timers do."""
    await world.tx.execute("UPDATE execution SET not_before = now() WHERE id = $1", identity)
    await world.admit(entering=[identity])


async def test_a_retry_gives_its_slot_away_and_enters_again_at_the_end(world: World) -> None:
    await world.limit(JOB, 1)
    flaky, second, third = await world.submit(3)
    await claim(world, flaky)
    assert await finish(world, flaky, "requested", outcome="failed", delay=60.0) is Status.REQUESTED
    await world.admit(ended=[flaky], entering=[flaky])
    # Its time has not come: it holds nothing and stands nowhere.
    assert await world.statuses([flaky, second, third]) == ["requested", "scheduled", "requested"]
    assert await world.slots() == {second}
    assert await world.tx.fetchval("SELECT seq FROM execution WHERE id = $1", flaky) is None
    await world.audit()
    await wait_is_over(world, flaky)
    for _ in range(3):
        await world.end(*await world.slots())
    assert await world.order() == [flaky, second, third, flaky]
    assert await world.statuses([flaky, second, third]) == ["completed"] * 3


async def lose(world: World, identity: UUID) -> None:
    """Let a worker claim it, and lose the worker."""
    gone = await world.worker()
    assert await world.claim(gone, identity) == 1
    await world.tx.execute("UPDATE worker SET lease_expires_at = now() - interval '1 hour' WHERE id = $1", gone)
    await world.admit(decide={identity: "requested"}, reason="worker lost")
    await world.admit(entering=[identity])


async def test_losses_and_hand_backs_are_counted_apart_from_failures(world: World, interlock: Interlock) -> None:
    (identity,) = await world.submit()
    told = {"error_class": "RuntimeError", "error_text": "no luck"}
    await claim(world, identity)
    await finish(world, identity, "requested", outcome="failed", **told)
    await world.admit(entering=[identity])
    await lose(world, identity)
    await claim(world, identity, attempt=3)
    await finish(world, identity, "requested", outcome="handed_back", attempt=3)
    await world.admit(entering=[identity])
    claimed = await claim(world, identity, attempt=4)
    # What the policy judges by is the failures alone.
    assert claimed[identity]["failures"] == 1
    await finish(world, identity, "failed", attempt=4, **told)

    said = await interlock("show", identity)
    fields = dict(line.split(maxsplit=1) for line in said.out.splitlines()[:6])
    assert (said.code, fields["attempt"], fields["failures"], fields["losses"]) == (0, "4", "2", "1")
    lines = said.out[said.out.index("attempts") :].splitlines()[2:6]
    assert [(line.split()[:2], line.split()[-2:]) for line in lines] == [
        (["1", "failed"], ["no", "luck"]),
        (["2", "lost"], ["worker", "lost"]),
        (["3", "handed_back"], [str(world.hand), "-"]),
        (["4", "failed"], ["no", "luck"]),
    ]
    shown = json.loads((await interlock("show", identity, "--json")).out)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["failed", "lost", "handed_back", "failed"]
    assert (shown["execution"]["failures"], shown["execution"]["losses"]) == (2, 1)


async def test_a_cancel_ends_what_waits_for_its_retry(world: World) -> None:
    (identity,) = await world.submit()
    await claim(world, identity)
    await finish(world, identity, "requested", outcome="failed", delay=60.0)
    await world.admit(decide={identity: "cancelled"})
    assert await world.statuses([identity]) == ["cancelled"]
    await wait_is_over(world, identity)
    assert await world.statuses([identity]) == ["cancelled"]
    assert await world.tx.fetchval("SELECT count(*) FROM timer") == 0


@pytest.mark.parametrize(("target", "end"), [("completed", "completed"), ("requested", "cancelled")])
async def test_of_a_cancel_and_an_end_the_first_one_counts_and_no_retry_follows_a_cancel(
    world: World, target: str, end: str
) -> None:
    (identity,) = await world.submit()
    await claim(world, identity)
    await world.admit(decide={identity: "cancelled"})
    assert await world.statuses([identity]) == ["cancelling"]
    assert await finish(world, identity, target, outcome="failed" if target == "requested" else target) == end
    await world.admit(decide={identity: "cancelled"})
    assert await world.statuses([identity]) == [end]
