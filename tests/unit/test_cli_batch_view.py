"""How a batch looks on a terminal, without one: its bar, its figures, what failed and what is said about it."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from interlock.cli import batch_view as view
from interlock.cli.app import main
from interlock.client.batch_records import BatchState, FailureGroup
from interlock.contract.batches import COUNTED
from interlock.contract.status import TERMINAL, Status

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "cli.md", DOCS / "batches.md"]
EXAMPLES = sorted(
    {
        line
        for page in PAGES
        for line in re.findall(r"^(interlock batch .*?)(?:  +#.*)?$", page.read_text(), re.MULTILINE)
    }
)


def state(**fields: Any) -> BatchState:  # noqa: ANN401 - fields of the record
    counts = {name: fields.pop(name, 0) for name in (*COUNTED, "scheduled", "running")}
    total = fields.pop("total", 100)
    made = fields.pop("made", total or 0)
    given: dict[str, Any] = {
        "id": UUID("0192b0a0-0000-7000-8000-0000cafe0001"),
        "name": "nightly",
        "status": Status.RUNNING,
        "epoch": 1,
        "params": {},
        "planned": True,
        "sealed": total is not None,
        "percent": 0 if not total else 100 * sum(counts[name] for name in COUNTED) // total,
        "rate": None,
        "eta_seconds": None,
        "stalled_since": None,
        "stalled_reason": None,
        "max_parallel": 8,
        "paused": False,
        "error": None,
        "cancel_reason": None,
        "requested_at": datetime(2026, 1, 1, tzinfo=UTC),
        "started_at": None,
        "finished_at": None,
    }
    waiting = max(0, made - sum(counts.values()))
    return BatchState(**counts, total=total, made=made, waiting=waiting, **{**given, **fields})


def group(number: int, **fields: Any) -> FailureGroup:  # noqa: ANN401 - fields of the record
    given: dict[str, Any] = {"error_class": "ValueError", "message": "no", "partitions": number, "keys": ("a",)}
    return FailureGroup(fingerprint=f"f{number}", **{**given, **fields})


def test_every_way_to_end_has_a_place_in_the_bar() -> None:
    assert set(view.ORDER) == {Status(name) for name in COUNTED}


@pytest.mark.parametrize("total", [1, 7, 40, 41, 1000, 1_000_000])
def test_a_bar_is_full_only_when_the_batch_has_ended(total: int) -> None:
    filled = [sum(n for _, n in view.cells(state(total=total, completed=done))) for done in steps(total)]
    assert filled == sorted(filled)
    assert all(n <= view.BAR * done // total for n, done in zip(filled, steps(total), strict=True))
    assert filled[-1] == view.BAR - 1
    assert sum(n for _, n in view.cells(state(total=total, completed=total, status=Status.COMPLETED))) == view.BAR


def steps(total: int) -> list[int]:
    return sorted({total * part // 97 for part in range(98)})


def test_a_bar_has_the_share_of_each_status_and_always_its_width() -> None:
    found = state(completed=50, failed=25, total=100)
    assert view.cells(found) == [(Status.COMPLETED, 20), (Status.FAILED, 10)]
    assert view.bar(found).plain == "█" * 30 + "░" * 10
    assert view.bar(state(total=None, made=3)).plain == "░" * view.BAR
    assert view.bar(state(total=0, status=Status.COMPLETED)).plain == "░" * view.BAR


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"completed": 42}, "42 %, 42 of 100"),
        ({"completed": 999_999, "total": 1_000_000, "percent": 99}, "99 %, 999,999 of 1,000,000"),
        ({"total": None, "made": 3, "completed": 1}, "1 of 3 so far"),
        ({"total": None, "made": 0}, "nothing to do so far"),
        ({"total": None, "made": 5000, "planned": False}, "being planned, 5,000 so far"),
        ({"total": None, "made": 3, "cancelled": 3, "status": Status.CANCELLED}, "3 of 3; nobody sealed it"),
        ({"total": None, "planned": False, "status": Status.FAILED}, "0 of 0; its plan was never finished"),
    ],
)
def test_how_far_a_batch_is_says_only_what_is_known(fields: dict[str, Any], text: str) -> None:
    assert view.progress(state(**fields)) == text


def test_counts_that_are_zero_are_not_told() -> None:
    assert view.counted(state(running=2, completed=1, failed=1)) == "2 running, 96 waiting, 1 completed, 1 failed"
    assert view.counted(state(total=0)) == "no partitions"


@pytest.mark.parametrize(
    ("rate", "eta", "text"),
    [
        (None, None, None),
        (12.4, None, "12/s"),
        (2.54, 4.8, "2.5/s, about 4.8s to go"),
        (0.05, 7500.0, "3.0/min, about 2h 5m to go"),
        (0.001, None, "3.6/h"),
    ],
)
def test_the_pace_is_told_in_a_unit_that_fits(rate: float | None, eta: float | None, text: str | None) -> None:
    assert view.pace(state(rate=rate, eta_seconds=eta)) == text


def test_the_live_view_tells_what_holds_a_batch_and_what_failed() -> None:
    found = state(completed=1, failed=3, stalled_since=datetime.now(UTC), stalled_reason="pool default is paused")
    text = view.live(found, [group(2, keys=("a", "b")), group(1)]).plain
    assert "stands still since " in text
    assert "pool default is paused" in text
    assert text.splitlines()[-2:] == ["2 x ValueError: no (a, b)", "1 x ValueError: no (a)"]


def test_many_kinds_of_failures_and_long_messages_are_cut() -> None:
    lines = view.grouped([group(9, message=f"{'x' * 200}\nmore"), *(group(1) for _ in range(6))])
    assert len(lines) == view.MOST_GROUPS + 1
    assert lines[-1] == "and 2 more kinds of failures"
    assert lines[0] == f"9 x ValueError: {'x' * 99}… (a, …)"


@pytest.mark.parametrize("status", sorted(set(Status) - TERMINAL))
def test_a_batch_that_goes_on_is_not_to_be_restarted(status: Status) -> None:
    assert view.ways_back(state(failed=1, status=status), [group(1)]) == []


def test_a_batch_whose_plan_was_never_finished_is_not_to_be_restarted() -> None:
    assert view.ways_back(state(total=None, cancelled=1, planned=False, status=Status.FAILED), []) == []


def test_the_ways_back_are_those_that_would_choose_something() -> None:
    found = state(failed=3, partial=1, status=Status.PARTIAL)
    start = "interlock batch restart cafe0001 --only"
    assert view.ways_back(found, [group(2), group(1)]) == [
        f"{start} failed",
        f"{start} partial",
        f"{start} error=f2",
    ]
    assert view.ways_back(state(completed=100, status=Status.COMPLETED), []) == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_command_on_the_pages_is_understood(
    example: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It gets as far as the database, of which there is none."""
    monkeypatch.setenv("INTERLOCK_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "once.yaml").write_text("batch: once\nsealed: false\nrun: {action: step}\n")
    for name in ("items.jsonl", "urls.jsonl"):
        (tmp_path / name).write_text("1\n")
    code = main(shlex.split(example)[1:])
    assert code == 69, capsys.readouterr().err
