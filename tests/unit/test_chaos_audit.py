"""The auditor of the trials: a clean history gives zeros, and a defect of each kind moves its own figure alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from chaos.audit import Crash, Loss, Material, Move, audit, percentile
from chaos.ear import Ear, Fact
from chaos.figures import MEANING, Bars, Figures, Verdict, document, total
from chaos.flavours import DONE, Asked
from interlock.contract.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LANE = 7
WORKER, ANOTHER = UUID(int=101), UUID(int=102)
KEY = ("action:chaos.three", 3)
IDS = [UUID(int=number) for number in range(1, 5)]


def asked(identity: UUID) -> Asked:
    return Asked(id=identity, flavour="three", request={}, ends=DONE, limits=(KEY,), cancelled=False)


def story(number: int) -> list[Move]:
    """Return the moves of one execution that waited, ran and completed, while the others did the same."""
    steps = [(None, "requested"), ("requested", "scheduled"), ("scheduled", "running"), ("running", "completed")]
    return [
        Move(
            execution_id=IDS[number],
            move=step + 1,
            position=step + 10 * number,
            source=source,
            target=target,
            attempt=int(step > 0),
            epoch=1,
            actor="/worker/1",
            lane_id=LANE if target == "scheduled" else None,
            seq=number + 1 if target == "scheduled" else None,
            at=100.0 * number + step,
        )
        for step, (source, target) in enumerate(steps)
    ]


def told(moves: Sequence[Move]) -> dict[str, Fact]:
    """Return what a subscriber hears of these moves."""
    facts = {}
    for move in moves:
        name = str(move.execution_id)
        said: dict[str, Any] = {"id": name, "attempt": move.attempt, "epoch": 1}
        if move.target in {"running", "completed"}:
            data = {**said, "from": move.source, "to": move.target, "action": "chaos.three"}
            facts[f"{name}/1/{move.move}"] = Fact("execution.status_changed", name, data)
        if move.target == "completed":
            facts[f"{name}/1/completed"] = Fact("execution.completed", name, {**said, "status": "completed"})
    return facts


@pytest.fixture
def clean() -> Material:
    """A trial of four executions in which nothing was wrong."""
    moves = [move for number in range(len(IDS)) for move in story(number)]
    return Material(asked=[asked(identity) for identity in IDS], moves=moves, facts=told(moves), lease=8.0)


def test_a_clean_trial_has_no_figure_but_its_executions(clean: Material) -> None:
    assert audit(clean) == Figures(executions=4)


def without(material: Material, wanted: Callable[[Move], bool]) -> Material:
    """Drop moves, and what would have been heard of them."""
    moves = [move for move in material.moves if not wanted(move)]
    return replace(material, moves=moves, facts=told(moves))


def with_moves(material: Material, *more: Move) -> Material:
    moves = [*material.moves, *more]
    return replace(material, moves=moves, facts=told(moves))


def never_ended(material: Material) -> Material:
    return without(material, lambda move: move.execution_id == IDS[0] and move.target == "completed")


def never_accepted(material: Material) -> Material:
    return without(material, lambda move: move.execution_id == IDS[0])


def ended_wrongly(material: Material) -> Material:
    wrong = [replace(each, ends=frozenset({"cancelled"})) for each in material.asked[:1]]
    return replace(material, asked=[*wrong, *material.asked[1:]])


def ended_again(material: Material) -> Material:
    last = story(3)[-1]
    more = replace(last, move=5, position=last.position + 1)
    return replace(with_moves(material, more), facts={**material.facts, f"{IDS[3]}/1/5": _of(more)})


def _of(move: Move) -> Fact:
    return next(fact for key, fact in told([move]).items() if not key.endswith("completed"))


def went_on_after_its_end(material: Material) -> Material:
    last = story(3)[-1]
    back = replace(last, move=5, position=last.position + 1, source="completed", target="scheduled")
    end = replace(last, move=6, position=last.position + 2, source="scheduled", target="cancelling")
    moves = [*material.moves, back, end]
    heard = Fact(
        "execution.status_changed",
        str(IDS[3]),
        {"id": str(IDS[3]), "attempt": 1, "epoch": 1, "from": "scheduled", "to": "cancelling"},
    )
    facts = {**told(material.moves[:]), f"{IDS[3]}/1/6": heard}
    return replace(material, moves=moves, facts=facts)


def unheard(key: str) -> Callable[[Material], Material]:
    def change(material: Material) -> Material:
        facts = dict(material.facts)
        del facts[f"{IDS[1]}/1/{key}"]
        return replace(material, facts=facts)

    return change


def heard(key: str, **data: object) -> Callable[[Material], Material]:
    def change(material: Material) -> Material:
        name = str(IDS[1])
        said = {"id": name, "attempt": 1, "epoch": 1, **data}
        return replace(material, facts={**material.facts, f"{name}/1/{key}": Fact("any", name, said)})

    return change


def one_too_many(material: Material) -> Material:
    """Let all four hold their slots at once, as three may."""
    late = [replace(m, position=m.position + 1000) if m.target == "completed" else m for m in material.moves]
    return replace(material, moves=late)


def overtaken(material: Material) -> Material:
    turned = {IDS[0]: 2, IDS[1]: 1}
    moves = [
        replace(m, seq=turned[m.execution_id]) if m.seq is not None and m.execution_id in turned else m
        for m in material.moves
    ]
    return replace(material, moves=moves)


def lost_for_long(material: Material) -> Material:
    """Let the second execution lose its worker at 100 s, and go on in the queue after 20 s of no lease."""
    back = Move(
        execution_id=IDS[1],
        move=4,
        position=14,
        source="running",
        target="requested",
        attempt=1,
        epoch=1,
        actor="/executor/1",
        lane_id=None,
        seq=None,
        at=120.0,
    )
    end = [m for m in material.moves if m.execution_id == IDS[1] and m.target == "completed"]
    again = replace(back, move=5, position=15, source="requested", target="completed", at=121.0)
    moves = [*(m for m in material.moves if m not in end), back, again]
    name = str(IDS[1])
    said = {"id": name, "attempt": 1, "epoch": 1}
    facts = {key: fact for key, fact in told(moves).items() if not key.startswith(f"{name}/1/4")}
    facts[f"{name}/1/4"] = Fact("any", name, {**said, "from": "running", "to": "requested"})
    return replace(material, moves=moves, facts=facts, losses=[Loss(execution_id=IDS[1], attempt=1, lease_end=108.0)])


def after_a_crash(material: Material, heard_at: float, *crashes: Crash) -> Material:
    """Let the worker WORKER have ended the third execution at 203 s, and what it ended be heard of then."""
    key = f"{IDS[2]}/1/completed"
    moves = [
        replace(m, actor=f"/worker/{WORKER}") if m.execution_id == IDS[2] and m.target == "completed" else m
        for m in material.moves
    ]
    facts = {**material.facts, key: replace(material.facts[key], at=heard_at)}
    return replace(material, moves=moves, facts=facts, crashes=crashes)


def crash(at: float, worker: UUID = WORKER, *, publishing: bool = False) -> Crash:
    return Crash(worker=worker, at=at, publishing=publishing)


def silent_for_long(material: Material) -> Material:
    return after_a_crash(material, 210.0, crash(204.0))


@pytest.mark.parametrize(
    ("defect", "figure", "value"),
    [
        (never_ended, "lost", 1),
        (never_accepted, "lost", 1),
        (ended_wrongly, "lost", 1),
        (ended_again, "finished_twice", 1),
        (lambda m: replace(m, results_twice=2), "finished_twice", 2),
        (unheard("completed"), "events_missing", 1),
        (unheard("3"), "events_missing", 1),
        (heard("9", **{"from": "running", "to": "failed"}), "events_extra", 1),
        (heard("completed", status="failed"), "events_extra", 1),
        (lambda m: replace(m, contradictions=[f"{IDS[0]}/1/4"]), "events_extra", 1),
        (lambda m: replace(m, notes=["over three"]), "over_admitted", 1),
        (one_too_many, "over_admitted", 1),
        (lambda m: replace(m, notes=[f"overlap {IDS[0]}"]), "overlap", 1),
        (overtaken, "fifo_inversions", 1),
        (lambda m: replace(m, drift=3), "counter_drift", 3),
        (lambda m: replace(m, leaked_s=11.504), "leaked_slot_max_s", 11.5),
        (lost_for_long, "recovery_p99_s", 20.0),
        (silent_for_long, "event_after_crash_max_s", 7.0),
        (lambda m: replace(m, dead_letters=["oversized"]), "dead_letters", 1),
    ],
)
def test_a_defect_moves_its_figure_and_no_other(
    clean: Material, defect: Callable[[Material], Material], figure: str, value: float
) -> None:
    assert audit(defect(clean)) == replace(Figures(executions=4), **{figure: value})  # type: ignore[arg-type]  # by name
    limit = {"leaked_slot_max_s": 10, "recovery_p99_s": 18, "event_after_crash_max_s": 3}.get(figure, 0)
    said = f"{figure} is {value:g}, may be {limit:g}"
    assert Bars(recovery_p99_s=18).broken(audit(defect(clean))) == [said]


@pytest.mark.parametrize(
    ("crashes", "seconds"),
    [
        ((), 0.0),
        ((crash(204.0, ANOTHER),), 0.0),
        ((crash(204.0),), 7.0),
        ((crash(204.0, publishing=True),), 6.0),
        ((crash(204.0), crash(208.0, ANOTHER)), 7.0),
        ((crash(204.0), crash(208.0, ANOTHER, publishing=True)), 2.0),
        ((crash(204.0), crash(211.0, ANOTHER, publishing=True)), 7.0),
    ],
)
def test_silence_is_what_passes_after_the_end_of_a_crashed_worker_or_after_a_crash_of_who_told_for_it(
    clean: Material, crashes: Sequence[Crash], seconds: float
) -> None:
    silent = after_a_crash(clean, 110.0, *crashes)
    assert audit(replace(silent, ahead=100.0)) == Figures(executions=4, event_after_crash_max_s=seconds)


def test_a_move_after_the_end_counts_as_another_end_even_if_it_is_an_open_one(clean: Material) -> None:
    figures = audit(went_on_after_its_end(clean))
    assert (figures.finished_twice, figures.lost) == (1, 1)


def test_what_a_forger_or_a_stranger_says_is_no_fact_of_ours(clean: Material) -> None:
    ear = Ear("amqp://nowhere/", Topology(), "client.test")
    event = {
        "id": f"{IDS[0]}/1/9",
        "source": "/forger",
        "type": "execution.completed",
        "subject": str(IDS[0]),
        "data": {},
    }
    ear.hear(event)
    assert ear.facts == {}
    ear.hear({**event, "source": "/worker/1", "subject": "somebody"})
    assert audit(replace(clean, facts={**clean.facts, **ear.facts})) == Figures(executions=4)


def test_an_event_that_comes_again_must_say_the_same() -> None:
    ear = Ear("amqp://nowhere/", Topology(), "client.test")
    event = {
        "id": "a/1/2",
        "source": "/worker/1",
        "type": "execution.status_changed",
        "subject": "a",
        "data": {"to": "x"},
    }
    ear.hear(event)
    ear.hear(dict(event))
    assert ear.contradictions == []
    ear.hear({**event, "data": {"to": "y"}})
    assert ear.contradictions == ["a/1/2"]


def test_events_that_went_with_a_wiped_broker_are_forgiven_to_these_executions_only(clean: Material) -> None:
    silent = replace(clean, facts={})
    assert audit(silent).events_missing == 3 * len(IDS)
    assert audit(replace(silent, forgiven=IDS[:3])).events_missing == 3


def test_totals_add_what_is_counted_and_keep_the_worst_of_what_is_measured() -> None:
    first = Verdict(name="a", figures=Figures(executions=3, lost=1, recovery_p99_s=4.0), broken=("lost",))
    second = Verdict(name="b", figures=Figures(executions=4, leaked_slot_max_s=2.0, recovery_p99_s=3.0), skipped="no")
    assert total([first, second]) == Figures(executions=7, lost=1, leaked_slot_max_s=2.0, recovery_p99_s=4.0)
    assert (first.good, second.good) == (False, True)
    found = document([first, second], 5)
    assert list(found) == [*MEANING, "scenarios", "seed"]
    assert total([]) == Figures()


@pytest.mark.parametrize(("values", "expected"), [([], 0.0), ([3.0], 3.0), (list(range(1, 201)), 198)])
def test_a_percentile_is_one_of_the_values(values: list[float], expected: float) -> None:
    assert percentile(values, 0.99) == expected
