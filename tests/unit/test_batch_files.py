"""Files that hold batches: what is read, and what their author is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from interlock.actions.definition import actions_of
from interlock.actions.files import load
from interlock.contract.batches import Batch
from interlock.contract.errors import InvalidDefinition

if TYPE_CHECKING:
    from pathlib import Path

VALID = "batch: days\nrun: {action: step}\n"
ITEMS = f"{VALID}partition: {{items: [1]}}\n"


def told(folder: Path, *texts: str) -> list[str]:
    """Return what is wrong with files of these texts, one line each, without the folder."""
    for number, text in enumerate(texts):
        (folder / f"{number}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidDefinition) as caught:
        load(folder)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_a_folder_holds_actions_and_batches(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"action: step\ncommand: [x]\n---\n{ITEMS}notify: {{on: [failed], action: a}}\n")
    found = load(tmp_path)
    assert [(each.kind, each.content.name, each.line) for each in found] == [
        ("action", "step", 1),
        ("batch", "days", 4),
    ]
    assert [action.name for action in actions_of(found)] == ["step"]
    assert isinstance(found[1].content, Batch)
    assert found[0].action is found[0].content
    with pytest.raises(TypeError, match="defines the batch days, not an action"):
        _ = found[1].action


def test_two_definitions_of_one_name_are_refused_whatever_they_define(tmp_path: Path) -> None:
    assert told(tmp_path, ITEMS, f"{ITEMS}---\naction: days\ncommand: [x]\n") == [
        "1.yaml:1: the batch days is already defined at 0.yaml:1; rename or remove one",
        "1.yaml:5: the action days is already defined at 0.yaml:1, as a batch; rename or remove one",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"{ITEMS}action: days\n",
            ["1: batch: a document defines an action or a batch, not both; put `---` between the two"],
        ),
        ("partition: {items: [1]}\nrun: {action: a}\n", ["1: batch: is missing; give the batch a name, such as"]),
        ("bach: a\npartition: {items: [1]}\n", ['1: bach: unknown field; did you mean "batch"?']),
        ("name: a\n", ["1: action: is missing; give the action a name, such as `action: checksum`"]),
        ("batch: a\npartition: {items: [1]}\n", ["1: run: is missing; say what runs each partition, such as"]),
        (f"{ITEMS}keys: []\n", ["4: keys: unknown field; "]),
        (f"{ITEMS}max_paralel: 1\n", ['4: max_paralel: unknown field; did you mean "max_parallel"?']),
        (
            f"{ITEMS}retry:\n  on: [failed, lost]\n",
            ["5: retry.on[1]: 'lost' is not one of abandoned, failed, timed_out"],
        ),
        (f"{ITEMS}retry:\n  tries: 2\n", ["5: retry.tries: unknown field; the known ones are max_attempts"]),
        (f"{ITEMS}retry:\n  backoff: linar\n", ["5: retry.backoff: 'linar' is not one of constant, linear"]),
        (f"{ITEMS}outcome: {{min: 1}}\n", ["4: outcome.min: unknown field; "]),
        (f"{ITEMS}run: {{action: a}}\n", ["4: run: given twice, first on line 2; keep one"]),
        (f"{ITEMS}notify:\n  on: [ended]\n  action: a\n", ["5: notify.on[0]: 'ended' is not one of started, first_"]),
        (f"{ITEMS}notify:\n  on: [failed]\n  acton: a\n", ["4: notify.action: is missing", "6: notify.acton: unknown"]),
        (f"{ITEMS}notify:\n  - on: failed\n    action: a\n", ["5: notify[0].on: must be a list, found 'failed'"]),
        (f"{ITEMS}fail_fast: 0.5\nsealed: false\n", ["1: fail_fast is a share of the total, which an open batch does"]),
        (VALID, ["1: partition is missing; say how the work is cut, or write `sealed: false` and add it later"]),
        (f"{VALID}partition: [1]\n", ["3: partition: must be a mapping of names to values, found [1]"]),
        (
            f"{VALID}partition:\n  range: {{from: 1, too: 2, step: 1}}\n",
            ["4: partition.range.to: is missing; add it", '4: partition.range.too: unknown field; did you mean "to"?'],
        ),
        (
            f"{VALID}partition:\n  range: {{from: 3, to: 2, step: 1}}\n",
            ["4: partition.range: the range goes backwards, from 3 to 2; exchange the two"],
        ),
        (
            f"{VALID}partition:\n  range: {{from: 2026-01-01 06:00, to: 2026-01-02, step: 1h}}\n",
            ["4: partition.range: from: '2026-01-01 06:00' has no time zone; put Z (for UTC) or +01:00 behind it"],
        ),
        (
            f"{VALID}partition:\n  range: {{from: 2026-01-01, to: 2026-01-02, step: 0d}}\n",
            ["4: partition.range.step: a range with a step of 0 or less never arrives; write a step above 0"],
        ),
        (f"{VALID}partition:\n  product: {{}}\n", ["4: partition.product: dictionary should have at least 1 item"]),
        (
            f"{VALID}partition:\n  product:\n    day: {{range: {{form: 1, to: 2, step: 1}}}}\n    n: 5\n",
            [
                "5: partition.product.day.range.from: is missing",
                '5: partition.product.day.range.form: unknown field; did you mean "from"?',
                "6: partition.product.n: a list is needed here",
            ],
        ),
        (
            f'{VALID}partition:\n  items: "{{{{ params.usrs }}}}"\nparams:\n  properties: {{users: {{}}}}\n',
            ['4: partition.items: unknown parameter "usrs"; did you mean "users"?'],
        ),
        (f"{ITEMS}params: {{type: list}}\n", ["4: params.type: not a valid JSON Schema"]),
    ],
)
def test_a_mistake_in_a_batch_is_named_with_its_line(tmp_path: Path, text: str, expected: list[str]) -> None:
    found = told(tmp_path, text)
    for line in expected:
        assert any(each.startswith(f"0.yaml:{line}") for each in found), (line, found)
