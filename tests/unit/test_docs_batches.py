"""The page about batches, executed: every example loads and is cut as shown, every table tells what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from executor.rules.partition import Counts, outcome
from interlock.actions.files import load
from interlock.actions.partitions import LONGEST_KEY, MOST_INLINE, NOTIFIED, Partitioner, items
from interlock.contract.batches import MOST_AXES, Batch, Notify, Outcome
from interlock.contract.errors import InvalidDefinition

PAGE = (Path(__file__).parents[2] / "docs" / "batches.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```([a-z ]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CUT = re.findall(r"`(\{\".*?\})`[^`]*?:\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


def table(heading: str, number: int = 0) -> list[list[str]]:
    """Return the cells of one table below a heading, without its two first lines."""
    section = re.split(r"\n##+ ", PAGE.partition(f"# {heading}\n")[2])[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    rows = tables[number].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def batches(folder: Path) -> list[Batch]:
    for number, text in enumerate(blocks("yaml")):
        (folder / f"{number}.yaml").write_text(text, encoding="utf-8")
    return [each.content for each in load(folder) if isinstance(each.content, Batch)]


def small(**fields: object) -> Batch:
    return Batch.model_validate({"batch": "b", "partition": {"items": []}, "run": {"action": "a"}, **fields})


def test_every_yaml_example_loads(tmp_path: Path) -> None:
    names = [batch.name for batch in batches(tmp_path)]
    assert names == ["bi-date-update", "pictures", "mirror", "import", "nightly", "weekly", "crawl"]


def test_every_example_is_cut_as_shown(tmp_path: Path) -> None:
    examples = batches(tmp_path)[:3]
    assert len(CUT) == len(examples)
    for batch, (written, keys) in zip(examples, CUT, strict=True):
        params = json.loads(written)
        many = Partitioner(batch, params)
        assert [many.partition(item, 1)[0] for item in items(batch, params)] == keys.splitlines()


def test_the_errors_shown_are_those_of_the_wrong_example(tmp_path: Path) -> None:
    (wrong,) = blocks("yaml wrong")
    (tmp_path / "wrong.yaml").write_text(wrong, encoding="utf-8")
    with pytest.raises(InvalidDefinition) as caught:
        load(tmp_path)
    assert str(caught.value).replace(str(tmp_path), "batches") == blocks("text")[-1].rstrip()


@pytest.mark.parametrize("row", table("range"), ids="/".join)
def test_a_range_holds_what_the_page_says(row: list[str]) -> None:
    first, last, step, shown = row
    ends = {"from": first, "to": last, "step": step}
    spread = {name: int(text) if text.isdigit() else text for name, cell in ends.items() if (text := cell.strip("`"))}
    found = items(small(partition={"range": spread}), {})
    assert [str(item) for item in found] == re.findall(r"`([^`]+)`", shown)


@pytest.mark.parametrize("row", table("Keys"), ids="/".join)
def test_an_item_is_called_what_the_page_says(row: list[str]) -> None:
    item, key = (cell.strip("`") for cell in row)
    assert Partitioner(small(), {}).partition(json.loads(item), 1)[0] == key


@pytest.mark.parametrize("row", table("Outcome", 1), ids="/".join)
def test_an_outcome_is_what_the_page_says(row: list[str]) -> None:
    partitions, policy, expected = row
    ended = {status: int(count) for count, status in re.findall(r"(\d+) (\w+)", partitions)}
    rules: dict[str, Any] = YAML(typ="safe").load(policy.strip("`")) or {}
    assert f"`{outcome(Counts(total=sum(ended.values()), **ended), Outcome(**rules))}`" == expected


def test_the_tables_name_every_field() -> None:
    assert [row[0].strip("`") for row in table("Every field")] == list(Batch.model_fields)
    assert [row[0].strip("`") for row in table("Outcome")] == list(Outcome.model_fields)


def test_the_page_names_every_event_and_all_that_a_notification_sees() -> None:
    text = PAGE.partition("## Notify")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", text.rpartition("```")[2])
    *events, batch = named[: named.index("batch") + 1]
    for event in events:
        Notify.model_validate({"on": [event], "action": "a"})
    assert len(events) == 8
    assert (batch, tuple(named[named.index("batch") + 1 :])) == ("batch", NOTIFIED)


def test_the_numbers_on_the_page_are_those_of_the_code() -> None:
    assert f"{MOST_INLINE:,} items can be given" in PAGE
    assert f"1 to {LONGEST_KEY}\nprintable characters" in PAGE
    assert MOST_AXES == 8
    assert "At most eight names" in PAGE
