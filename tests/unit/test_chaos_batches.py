"""The batches of the trials: asked for as they can be planned, and judged so that each defect moves its own figure."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from chaos.actions import CALLS, RUNS, Rehearsed, called, part
from chaos.audit import Material, Move, audit
from chaos.batch_audit import Call, Told, due, object_to, outcome
from chaos.batch_kinds import EITHER, EVENTS, KINDS, PLAN, AskedBatch, Child, Policy, as_asked, plan
from chaos.ear import Fact
from chaos.figures import SIZES, Bars, Figures
from chaos.flavours import DONE
from executor.rules import partition as rules
from interlock.actions.partitions import Partitioner, items
from interlock.contract.batches import COUNTED, Batch, Outcome
from interlock.contract.status import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pydantic import JsonValue

BATCH, PLANNING, ONE, TWO = (UUID(int=number) for number in range(1, 5))
CALLBACKS = [UUID(int=number) for number in range(11, 15)]
HAPPENED = ("started", "first_failure", "finished", "partial")
CUT = {"a": frozenset({"completed"}), "b": frozenset({"failed"})}
COUNTS = {**dict.fromkeys(COUNTED, 0), "total": 2, "completed": 1, "failed": 1}


def asked(**fields: Any) -> AskedBatch:  # noqa: ANN401 - of an AskedBatch
    given: dict[str, Any] = {
        "id": BATCH,
        "flavour": "mixed batch",
        "request": {},
        "ends": frozenset(TERMINAL),
        "limits": (),
        "cancelled": False,
        "partitions": CUT,
        "policy": Policy(),
        "stopped": None,
        "events": EVENTS,
        "partition_limits": ((f"batch:{BATCH}", 1),),
    }
    return AskedBatch(**{**given, **fields})


def story(identity: UUID, *statuses: str, epoch: int = 1) -> list[Move]:
    """Return the moves of one execution through these statuses, all of the first attempt."""
    sources = (None, *statuses)
    return [
        Move(
            execution_id=identity,
            move=step + 1,
            position=identity.int * 10 + step,
            source=source,
            target=target,
            attempt=1,
            epoch=epoch,
            actor="/worker/1",
            lane_id=None,
            seq=None,
            at=float(step),
        )
        for step, (source, target) in enumerate(zip(sources, statuses, strict=False))
    ]


def heard(moves: Sequence[Move]) -> dict[str, Fact]:
    """Return what a subscriber hears of these moves."""
    facts = {}
    for move in moves:
        name = str(move.execution_id)
        said: dict[str, Any] = {"id": name, "attempt": move.attempt, "epoch": move.epoch}
        if move.target in TERMINAL or (move.source is not None and move.target != "scheduled"):
            facts[f"{name}/{move.epoch}/{move.move}"] = Fact(
                "any", name, {**said, "from": move.source, "to": move.target}
            )
        if move.target in TERMINAL:
            facts[f"{name}/{move.epoch}/completed"] = Fact("any", name, {**said, "status": move.target})
    return facts


def material(batch: AskedBatch, ends: dict[str, str], end: str, calls: Sequence[str] = HAPPENED) -> Material:
    """Return a trial of one batch whose partitions ended so, as it did itself."""
    ran = ("requested", "scheduled", "running")
    partitions = dict(zip(ends, (ONE, TWO), strict=False))
    callbacks = CALLBACKS[: len(calls)]
    children = [
        Child(id=PLANNING, batch=BATCH, key=PLAN),
        *(Child(id=identity, batch=BATCH, key=key) for key, identity in partitions.items()),
        *(Child(id=identity, batch=BATCH, key=None) for identity in callbacks),
    ]
    moves = [
        *story(BATCH, "requested", "running", end),
        *(move for identity in (PLANNING, *callbacks) for move in story(identity, *ran, "completed")),
        *(move for key, identity in partitions.items() for move in story(identity, *ran, ends[key])),
    ]
    counts = {**dict.fromkeys(COUNTED, 0), "total": len(ends), **Counter(ends.values())}
    return Material(
        asked=[batch, *as_asked([batch], children)],
        moves=moves,
        facts=heard(moves),
        children=children,
        told={BATCH: Told(counts, counts)},
        calls=[Call(str(BATCH), 1, event, str(identity), 1) for event, identity in zip(calls, callbacks, strict=True)],
    )


@pytest.fixture
def clean() -> Material:
    """A batch of one partition that completed and one that failed, which called back for everything that happened."""
    return material(asked(), {"a": "completed", "b": "failed"}, "partial")


CLEAN = Figures(executions=8, batches=1)


def test_a_clean_batch_has_no_figure_but_what_it_made(clean: Material) -> None:
    assert audit(clean) == CLEAN


def with_moves(material: Material, moves: list[Move]) -> Material:
    return replace(material, moves=moves, facts=heard(moves))


def told(**counts: int) -> Callable[[Material], Material]:
    return lambda m: replace(m, told={BATCH: Told({**COUNTS, **counts}, COUNTS)})


def said_otherwise(material: Material) -> Material:
    return replace(material, told={BATCH: Told(COUNTS, {**COUNTS, "completed": 2})})


def cut_otherwise(material: Material) -> Material:
    renamed = [replace(child, key="c") if child.key == "b" else child for child in material.children]
    return replace(material, children=renamed)


def cut_twice(material: Material) -> Material:
    """Let a partition be there once more, with counters that know of it."""
    again = UUID(int=99)
    children = [*material.children, Child(id=again, batch=BATCH, key="b")]
    counts = {**COUNTS, "total": 3, "failed": 2}
    more = with_moves(material, [*material.moves, *story(again, "requested", "scheduled", "running", "failed")])
    return replace(more, children=children, told={BATCH: Told(counts, counts)})


def ended_otherwise(material: Material) -> Material:
    last = [move for move in material.moves if move.execution_id == BATCH][-1]
    moves = [replace(move, target="completed") if move is last else move for move in material.moves]
    calls = [call._replace(event="completed") if call.event == "partial" else call for call in material.calls]
    return replace(with_moves(material, moves), calls=calls)


def called_by(execution: UUID, event: str = "started", attempt: int = 1) -> Callable[[Material], Material]:
    call = Call(str(BATCH), 1, event, str(execution), attempt)
    return lambda m: replace(m, calls=[*m.calls, call])


def asked_for_twice(material: Material) -> Material:
    """Let there be one more callback, which came to nothing."""
    again = UUID(int=99)
    children = [*material.children, Child(id=again, batch=BATCH, key=None)]
    more = with_moves(material, [*material.moves, *story(again, "requested", "scheduled", "running", "failed")])
    return replace(more, children=children)


@pytest.mark.parametrize(
    ("defect", "figure", "value"),
    [
        (told(total=3), "wrong_counts", 1),
        (told(failed=0), "wrong_counts", 1),
        (said_otherwise, "wrong_counts", 1),
        (lambda m: replace(m, told={}), "wrong_counts", 1),
        (cut_otherwise, "wrong_counts", 1),
        (cut_twice, "wrong_counts", 1),
        (ended_otherwise, "wrong_outcomes", 1),
        (lambda m: replace(m, calls=m.calls[1:]), "wrong_callbacks", 1),
        (lambda m: replace(m, calls=()), "wrong_callbacks", 4),
        (called_by(UUID(int=99)), "wrong_callbacks", 1),
        (called_by(CALLBACKS[0]), "wrong_callbacks", 1),
        (called_by(CALLBACKS[0], "cancelled"), "wrong_callbacks", 1),
        (asked_for_twice, "wrong_callbacks", 1),
        (
            lambda m: replace(m, calls=[call._replace(epoch=2) for call in m.calls[:1]] + [*m.calls[1:]]),
            "wrong_callbacks",
            2,
        ),
    ],
)
def test_a_defect_moves_its_figure_and_no_other(
    clean: Material, defect: Callable[[Material], Material], figure: str, value: int
) -> None:
    found = audit(defect(clean))
    assert replace(found, executions=8) == replace(CLEAN, **{figure: value})
    assert Bars(recovery_p99_s=18).broken(found) == [f"{figure} is {value}, may be 0"]


def test_a_batch_that_did_not_end_is_open_and_nothing_else_is_due_yet(clean: Material) -> None:
    last = [move for move in clean.moves if move.execution_id == BATCH][-1]
    open_yet = with_moves(clean, [move for move in clean.moves if move is not last])
    assert audit(replace(open_yet, calls=(), told={})) == replace(CLEAN, lost=1, batches_open=1)


def test_the_end_of_a_batch_must_be_heard_and_under_one_id(clean: Material) -> None:
    end = f"{BATCH}/1/completed"
    assert audit(replace(clean, facts={key: f for key, f in clean.facts.items() if key != end})).events_missing == 1
    again = {**clean.facts, f"{BATCH}/2/completed": clean.facts[end]}
    assert audit(replace(clean, facts=again)).events_extra == 1


def test_a_call_that_was_made_in_two_attempts_is_one_and_one_that_lost_its_workers_may_be_none(clean: Material) -> None:
    assert audit(called_by(CALLBACKS[0], attempt=2)(clean)) == CLEAN
    moves = [
        replace(move, target="abandoned") if move.execution_id == CALLBACKS[0] and move.target == "completed" else move
        for move in clean.moves
    ]
    assert audit(replace(with_moves(clean, moves), calls=clean.calls[1:])) == CLEAN


def restarted(material: Material, end: str = "completed") -> Material:
    """Let the failed partition be made again, and end so; its batch tells again of what happened to it."""
    again, planning = UUID(int=21), UUID(int=22)
    calls = ["started", "finished", end, *(["first_failure"] if end == "failed" else [])]
    callbacks = [UUID(int=number) for number in range(31, 31 + len(calls))]
    children = [
        *(replace(child, superseded=child.key == "b") for child in material.children),
        Child(id=planning, batch=BATCH, key=PLAN, epoch=2),
        Child(id=again, batch=BATCH, key="b", epoch=2),
        *(Child(id=identity, batch=BATCH, key=None) for identity in callbacks),
    ]
    ran = ("requested", "scheduled", "running")
    begun = [move for move in material.moves if move.execution_id == BATCH][-1]
    goes_on = [
        replace(begun, move=4, position=1000, source="partial", target="running", epoch=2),
        replace(begun, move=5, position=1001, source="running", target="partial" if end == "failed" else end, epoch=2),
    ]
    moves = [
        *(*material.moves, *goes_on, *story(planning, *ran, "completed", epoch=2), *story(again, *ran, end, epoch=2)),
        *(move for identity in callbacks for move in story(identity, *ran, "completed")),
    ]
    counts = {**dict.fromkeys(COUNTED, 0), "total": 2, **Counter(["completed", end])}
    told_again = [
        Call(str(BATCH), 2, event, str(identity), 1) for event, identity in zip(calls, callbacks, strict=True)
    ]
    return replace(
        with_moves(material, moves),
        asked=[material.asked[0], *as_asked(material.asked[:1], children)],
        children=children,
        told={BATCH: Told(counts, counts)},
        calls=[*material.calls, *(c._replace(event="partial") if c.event == "failed" else c for c in told_again)],
    )


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_a_restarted_batch_is_what_it_is_now_and_tells_of_each_epoch(end: str) -> None:
    either = asked(partitions={"a": frozenset({"completed"}), "b": frozenset({"completed", "failed"})})
    it = restarted(material(either, {"a": "completed", "b": "failed"}, "partial"), end)
    assert audit(it) == replace(CLEAN, executions=len(it.asked))
    assert audit(replace(it, calls=it.calls[:4])).wrong_callbacks == (3 if end == "completed" else 4)
    assert audit(replace(it, calls=it.calls[4:])).wrong_callbacks == 4
    counted_twice = [replace(child, superseded=False) for child in it.children]
    assert audit(replace(it, children=counted_twice)).wrong_counts == 1
    gone = [child for child in it.children if child.key != "b" or child.superseded]
    assert audit(replace(it, children=gone)).wrong_counts == 1
    at_once = [replace(move, epoch=1) for move in it.moves]
    assert audit(with_moves(it, at_once)).finished_twice > 0


async def test_what_ends_either_way_ends_one_way_in_all_its_attempts_and_both_ways_among_many(tmp_path: Path) -> None:
    (tmp_path / RUNS).mkdir()

    async def end(identity: UUID, attempt: int) -> str:
        class Context:
            execution_id = str(identity)

        Context.attempt = attempt  # type: ignore[attr-defined]
        try:
            await part(str(tmp_path), Context(), seconds=0, end="either")  # type: ignore[arg-type]
        except Rehearsed:
            return "failed"
        return "completed"

    ends = [(await end(UUID(int=number), 1), await end(UUID(int=number), 2)) for number in range(4)]
    assert ends == [("completed", "completed"), ("failed", "failed")] * 2
    assert set(EITHER["either"]) == {"completed", "failed"}


@pytest.mark.parametrize(
    ("fields", "ends", "end", "right"),
    [
        ({"stopped": "cancelled"}, {"a": "completed", "b": "cancelled"}, "cancelled", True),
        ({"stopped": "cancelled"}, {"a": "completed", "b": "cancelled"}, "partial", False),
        ({"stopped": "cancelled"}, {"a": "completed", "b": "completed"}, "completed", True),
        ({"stopped": "cancelled"}, {"a": "completed", "b": "completed"}, "cancelled", False),
        ({"stopped": "cancelled"}, {}, "cancelled", True),
        ({"stopped": "cancelled"}, {}, "completed", False),
        ({"stopped": "timed_out"}, {"a": "cancelled", "b": "cancelled"}, "timed_out", True),
        ({"stopped": "timed_out"}, {"a": "cancelled", "b": "cancelled"}, "cancelled", False),
        ({"policy": Policy(fail_fast=1)}, {"a": "failed", "b": "cancelled"}, "failed", True),
        ({"policy": Policy(fail_fast=0.5)}, {"a": "failed", "b": "cancelled"}, "failed", True),
        ({"policy": Policy(fail_fast=2)}, {"a": "failed", "b": "cancelled"}, "failed", False),
        ({"policy": Policy(fail_fast=1)}, {"a": "completed", "b": "failed"}, "partial", True),
        ({}, {"a": "completed", "b": "cancelled"}, "cancelled", False),
        ({}, {"a": "completed", "b": "cancelled"}, "partial", False),
    ],
)
def test_what_was_stopped_ends_as_whoever_stopped_it_says_if_anything_was_left_to_stop(
    fields: dict[str, Any], ends: dict[str, str], end: str, *, right: bool
) -> None:
    failures = {"first_failure"} if "failed" in ends.values() else set()
    it = material(asked(**fields), ends, end, sorted({"started", "finished", end} | failures))
    found = audit(it)
    assert (found.wrong_outcomes, found.wrong_counts, found.wrong_callbacks) == (int(not right), 0, 0)


def test_a_batch_that_was_cancelled_before_it_came_has_no_result_no_start_and_no_partitions() -> None:
    calls = ["cancelled", "finished"]
    it = material(asked(stopped="cancelled"), {}, "cancelled", calls)
    early = [move for move in it.moves if move.execution_id not in {BATCH, PLANNING}] + story(BATCH, "cancelled")
    it = replace(with_moves(it, early), children=[child for child in it.children if child.key != PLAN])
    it = replace(it, asked=[it.asked[0], *as_asked(it.asked[:1], it.children)])
    assert audit(it).wrong_counts == 1
    it = replace(it, told={BATCH: Told({**dict.fromkeys(COUNTED, 0), "total": 0}, {})})
    assert audit(it) == Figures(executions=3, batches=1)


def test_a_plan_that_lost_its_workers_fails_its_batch() -> None:
    assert due(asked(), {}, planned=False, plan="abandoned") == {"failed"}
    assert due(asked(), {}, planned=False, plan="completed") == set()


@pytest.mark.parametrize(
    "policy", [Policy(), Policy(partial_min=0.5), Policy(max_failed=1), Policy(fail_on_empty=True)]
)
def test_the_auditor_and_the_executors_judge_alike_though_they_share_no_rule(policy: Policy) -> None:
    seed = random.Random(7)  # noqa: S311 - repeatable, not secret
    told = Outcome(partial_min=policy.partial_min, max_failed=policy.max_failed, fail_on_empty=policy.fail_on_empty)
    for _ in range(500):
        counts = {name: seed.choice((0, 0, 1, 2)) for name in COUNTED}
        theirs = rules.outcome(rules.Counts(total=sum(counts.values()), **counts), told)
        assert outcome(counts, policy) == theirs, counts


def batches(seed: int, executions: int = 1300) -> list[AskedBatch]:
    found = plan(random.Random(seed), executions, "chaos", "/e")  # noqa: S311
    return [each for each in found if isinstance(each, AskedBatch)]


def test_the_whole_trial_asks_for_a_thousand_batches_of_every_kind_and_a_short_one_for_fewer() -> None:
    found = batches(1)
    assert (len(found), len(batches(1, 26)), len(batches(1, 1))) == (1000, 20, 1)
    assert sum(kind.share for kind in KINDS) == 100
    assert {each.flavour for each in found} == {f"{kind.name} batch" for kind in KINDS}
    assert {len(each.partitions) for each in found} == {0, 1, 2, 3, 4}
    first = {len(each.partitions) - len(each.added) for each in found if each.added is not None}
    assert first == {0, 1, 2, 3, 4}  # cut into none of its partitions, some, or all
    assert 200 < sum(bool(each.events) for each in found) < 400


def test_each_batch_is_a_definition_that_is_cut_into_the_partitions_that_are_expected() -> None:
    for each in batches(2):
        definition = Batch.model_validate({"batch": "any", **each.request["definition"]})
        assert definition.sealed is (each.added is None)
        planned_by_action = definition.partition is not None and definition.partition.action
        given: Any = range(1, len(each.partitions) + 1) if planned_by_action else items(definition, {})
        given = [*given, *(each.added or ())]
        partitioner = Partitioner(definition, {})
        made: dict[str, dict[str, JsonValue]] = dict(partitioner.partition(item, n) for n, item in enumerate(given, 1))
        assert list(made) == list(each.partitions)
        told = {key: str(params["end"]) for key, params in made.items()}
        assert all(each.partitions[key] >= {*EITHER.get(end, {end})} for key, end in told.items())
        assert {name for notify in definition.notify for name in notify.on} == each.events


def test_what_a_batch_made_may_end_as_it_was_told_to_and_be_cancelled_only_with_it() -> None:
    children = [
        Child(id=identity, batch=BATCH, key=key) for identity, key in ((ONE, "a"), (TWO, "c"), (PLANNING, PLAN))
    ]
    for batch, more in ((asked(), set()), (asked(policy=Policy(fail_fast=1)), {"cancelled"})):
        partition, stranger, planning = as_asked([batch], children)
        assert (partition.ends, partition.limits) == (CUT["a"], batch.partition_limits)
        assert (stranger.ends, planning.ends, planning.limits) == (TERMINAL, DONE | more, ())


async def test_a_callback_writes_down_what_the_auditor_reads(tmp_path: Path) -> None:
    class Context:
        execution_id = str(ONE)
        attempt = 2

    (tmp_path / RUNS).mkdir()
    await called(str(tmp_path), Context(), batch=str(BATCH), epoch=1, event="started")  # type: ignore[arg-type]
    (line,) = (tmp_path / CALLS).read_text().splitlines()
    assert Call.read(line) == Call(str(BATCH), 1, "started", str(ONE), 2)


def test_objections_are_told_by_the_batch_that_they_are_of(clean: Material) -> None:
    history: dict[UUID, list[Move]] = {}
    for move in clean.moves:
        history.setdefault(move.execution_id, []).append(move)
    assert not object_to(clean, history)
    (line,) = object_to(told(total=3)(clean), history).counts
    assert line.startswith(f"{BATCH} (mixed batch)")
    assert SIZES == ("executions", "batches")
