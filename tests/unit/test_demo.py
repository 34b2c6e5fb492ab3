"""What the demonstration makes of its figures, of log lines and of results."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples.symbols import count
from interlock.adapters.tap import Heard
from interlock.local import demo_batch_report
from interlock.local.demo_batch_report import BatchFigures
from interlock.local.demo_job import checksums, files_of, symbols
from interlock.local.demo_report import ZEROES, Figures, Outcome, loud_lines, publish
from interlock.local.demo_traffic import Traffic

GOOD = Figures(
    executions=300,
    completed=300,
    failed=0,
    completed_events=300,
    duplicates_injected=90,
    unchanged_writes=0,
    warnings=0,
    slots_held=0,
    over_limit=0,
    wrong_results=0,
    doctor_violations=0,
    seconds=9.5,
)


GOOD_BATCH = BatchFigures(
    partitions=10,
    status="completed",
    completed=8,
    skipped=2,
    failed=0,
    wrong_totals=0,
    counter_drift=0,
    lost=0,
    doctor_violations=0,
    seconds=3.0,
)


def test_figures_of_a_batch_that_are_as_they_must_be_prove_it() -> None:
    assert GOOD_BATCH.wrong() == []
    assert GOOD_BATCH.meaning().keys() == GOOD_BATCH.values().keys()


@pytest.mark.parametrize("name", demo_batch_report.ZEROES)
def test_a_single_one_where_a_batch_may_have_none_is_no_proof(name: str) -> None:
    changed: dict[str, Any] = {name: 1}
    assert replace(GOOD_BATCH, **changed).wrong() == [name]


def test_a_batch_that_ended_otherwise_or_did_not_count_all_is_no_proof() -> None:
    assert replace(GOOD_BATCH, status="partial").wrong() == ["status"]
    assert replace(GOOD_BATCH, completed=7).wrong() == ["completed"]
    assert replace(GOOD_BATCH, completed=10, skipped=0).wrong() == ["skipped"]
    assert replace(GOOD_BATCH, completed=0, skipped=10).wrong() == ["completed"]


def test_figures_that_are_as_they_must_be_prove_it() -> None:
    assert GOOD.wrong() == []
    assert Outcome(figures=GOOD, complaints=(), proof="").good


@pytest.mark.parametrize("name", ZEROES)
def test_a_single_one_where_none_may_be_is_no_proof(name: str) -> None:
    assert replace(GOOD, **{name: 1}).wrong() == [name]


@pytest.mark.parametrize("name", ["completed", "completed_events"])
@pytest.mark.parametrize("value", [299, 301])
def test_one_too_few_or_too_many_is_no_proof(name: str, value: int) -> None:
    assert replace(GOOD, **{name: value}).wrong() == [name]


def test_a_demonstration_without_duplicates_or_with_little_work_is_no_proof() -> None:
    assert replace(GOOD, duplicates_injected=0).wrong() == ["duplicates_injected"]
    assert replace(GOOD, executions=299, completed=299, completed_events=299).wrong() == ["executions"]


def test_a_complaint_alone_is_no_proof(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome(figures=GOOD, complaints=("nothing was taken over",), proof="proved")
    assert not outcome.good
    publish(outcome, as_json=False)
    told = capsys.readouterr().out
    assert "nothing was taken over" in told
    assert "proved" not in told.splitlines()


def test_the_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    publish(Outcome(figures=GOOD, complaints=(), proof="proved"), as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "proved"
    assert lines[-1] == (
        '{"executions": 300, "completed": 300, "failed": 0, "completed_events": 300, "duplicates_injected": 90, '
        '"unchanged_writes": 0, "warnings": 0, "slots_held": 0, "over_limit": 0, "wrong_results": 0, '
        '"doctor_violations": 0, "seconds": 9.5}'
    )


def test_one_lost_worker_is_announced_and_everything_else_that_is_loud_counts(tmp_path: Path) -> None:
    log = tmp_path / "executor.log"
    lost = '{"event": "worker lost", "level": "warning"}'
    quiet = '{"event": "ready", "level": "info"}'
    log.write_text(f"{quiet}\n{lost}\n")
    assert loud_lines([log]) == []
    loud = [lost, '{"event": "no", "level": "error"}', "Traceback (most recent call last):", "7"]
    log.write_text("\n".join([quiet, lost, *loud]))
    assert loud_lines([log]) == loud


def heard(number: int, kind: str = "execution.completed", subject: str = "a") -> Heard:
    event = {"id": f"{kind}/{number}", "type": kind, "data": {"id": subject}}
    return Heard(exchange="x", routing_key="k", event=event)


def test_a_repeat_is_counted_once() -> None:
    traffic = Traffic()
    for _ in range(2):
        traffic.hear(heard(1, subject="a"))
        traffic.hear(heard(2, subject="b"))
        traffic.hear(heard(3, "execution.status_changed", subject="c"))
    assert (traffic.heard, traffic.completed_events, traffic.told_twice) == (6, 2, [])
    traffic.hear(heard(4, subject="b"))
    assert traffic.told_twice == ["b"]


def test_every_tenth_new_event_of_a_type_is_to_be_sent_again() -> None:
    traffic = Traffic()
    for number in range(9):
        traffic.hear(heard(number))
        traffic.hear(heard(number))
    assert traffic.quiet
    traffic.hear(heard(9))
    assert not traffic.quiet


def test_the_files_of_a_checkout_are_those_that_git_knows_where_there_is_git(tmp_path: Path) -> None:
    for name in ("kept", "a b.py", "new"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".tool").mkdir()
    (tmp_path / ".tool" / "cache").touch()
    assert [path.name for path in files_of(tmp_path)] == ["a b.py", "kept", "new"]
    if (git := shutil.which("git")) is not None:
        subprocess.run([git, "init", "-q", str(tmp_path)], check=True)
        subprocess.run([git, "-C", str(tmp_path), "add", "kept", "a b.py"], check=True)
    assert [path.name for path in files_of(tmp_path)] == ["a b.py", "kept", *(["new"] if git is None else [])]
    assert checksums([tmp_path / "gone", tmp_path / "kept"]) == {
        str(tmp_path / "kept"): "79f076abdd19a752db7267bfff2f9022161d120dea919fdaca2ffdfc24ca8c96"
    }


def test_symbols_are_counted_alike_by_the_example_and_by_its_check() -> None:
    path = str(Path(__file__))
    assert count(path) == symbols(path)
    assert count(path)["functions"] > 10
