"""The page about queues: its definitions load and agree, and its tables name every bound, column and reason."""

from __future__ import annotations

import re
from pathlib import Path

from interlock.actions.definition import disagreements
from interlock.actions.files import load
from interlock.client.queue_records import Reason
from interlock.contract.keys import Bounds

PAGE = (Path(__file__).parents[2] / "docs" / "queues.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def rows(heading: str) -> list[str]:
    """Return the first cell of each row of the table under a heading, without its title."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\| ([^|-][^|]*?) \|", section, re.MULTILINE)[1:]


def test_every_definition_loads_and_they_agree_about_their_keys(tmp_path: Path) -> None:
    for number, text in enumerate(BLOCKS):
        (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
    found = [each.action for each in load(tmp_path)]
    assert [action.action for action in found] == ["invoice", "close-books"]
    assert disagreements(found) == []


def test_every_bound_has_a_row() -> None:
    assert rows("Bounds") == [*(f"`{name}`" for name in Bounds.model_fields), "paused"]


def test_every_reason_has_a_row() -> None:
    assert rows("Why it waits") == [f"`{reason}`" for reason in Reason]
