"""What the command line understands and says, without a database."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from interlock.cli.app import COMMANDS, Branch
from interlock.cli.output import counted, duration
from interlock.cli.params import read
from interlock.cli.run import exit_code
from interlock.client.ids import Fragment, short
from interlock.contract.errors import InvalidParams
from interlock.contract.status import Status

if TYPE_CHECKING:
    from pydantic import JsonValue

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
SCHEMA: dict[str, JsonValue] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "either": {"type": ["string", "null"]},
        "maybe": {"type": ["integer", "null"]},
        "flag": {"type": "boolean"},
        "many": {"type": "array"},
        "open": {},
    },
}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("text=5", "5"),
        ("text=a=b", "a=b"),
        ("text=", ""),
        ("count=5", 5),
        ("count=five", "five"),
        ("either=null", "null"),
        ("maybe=null", None),
        ("flag=true", True),
        ("many=[1, 2]", [1, 2]),
        ("open=5", "5"),
        ("undeclared=5", "5"),
        ("text:=5", 5),
        ('open:={"a": [null]}', {"a": [None]}),
    ],
)
def test_a_pair_is_read_as_the_schema_wants_it_and_as_json_when_it_says_so(pair: str, value: object) -> None:
    assert list(read(None, [pair], SCHEMA).values()) == [value]


def test_a_pair_wins_over_the_whole_and_the_whole_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "params.json"
    file.write_text('{"text": "a", "count": 1}')
    assert read(f"@{file}", ["count=2"], SCHEMA) == {"text": "a", "count": 2}


@pytest.mark.parametrize(
    "words", [("[]", []), ("{", []), ("@/nowhere", []), (None, ["=1"]), (None, [":=1"]), (None, ["x"])]
)
def test_what_cannot_be_read_as_parameters_is_refused(words: tuple[str | None, list[str]]) -> None:
    with pytest.raises(InvalidParams):
        read(*words, SCHEMA)


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([], 0),
        ([Status.COMPLETED, Status.SKIPPED], 0),
        ([Status.COMPLETED, Status.CANCELLED], 130),
        ([Status.CANCELLED, Status.TIMED_OUT], 124),
        ([Status.CANCELLED, Status.TIMED_OUT, Status.FAILED], 1),
        ([Status.PARTIAL], 1),
        ([Status.ABANDONED], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst_end(ends: list[Status], code: int) -> None:
    assert exit_code(Counter(ends)) == code


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123, "12ms"),
        (3.44, "3.4s"),
        (60, "1m 0s"),
        (310, "5m 10s"),
        (7500, "2h 5m"),
        (3 * 86400 + 4 * 3600 + 59, "3d 4h"),
    ],
)
def test_a_length_of_time_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_are_told_in_the_order_of_the_statuses() -> None:
    assert counted(Counter([Status.FAILED, Status.RUNNING, Status.FAILED])) == "1 running, 2 failed"
    assert counted({}) == "nothing"


def test_part_of_an_id_is_a_range_of_beginnings_and_a_pattern_of_ends() -> None:
    fragment = Fragment.parse("0192-B0")
    assert (fragment.first, fragment.last) == (
        UUID("0192b000-0000-0000-0000-000000000000"),
        UUID("0192b0ff-ffff-ffff-ffff-ffffffffffff"),
    )
    assert fragment.ending == "________-____-____-____-______0192b0"
    assert fragment.whole is None
    whole = UUID("0192b0a0-0000-7000-8000-0000cafe0001")
    assert Fragment.parse(str(whole)).whole == whole
    assert short(whole) == "cafe0001"


def test_the_page_about_the_command_line_shows_every_command() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, each in COMMANDS.leaves.items():
        for words in [f"{name} {leaf}" for leaf in each.leaves] if isinstance(each, Branch) else [name]:
            assert f"interlock {words}" in text
