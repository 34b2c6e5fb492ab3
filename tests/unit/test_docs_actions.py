"""The page about actions, executed: every example loads, and every error shown is the one that appears."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from interlock import RetryAfter
from interlock.actions.decorators import collect
from interlock.actions.files import load
from interlock.actions.validation import Schema
from interlock.contract.definitions import Action
from interlock.contract.errors import InvalidDefinition, InvalidParams
from interlock.contract.keys import Bounds

PAGE = (Path(__file__).parents[2] / "docs" / "actions.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```([a-z ]+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


def test_every_yaml_example_loads(tmp_path: Path) -> None:
    for number, text in enumerate(blocks("yaml")):
        (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
    assert [each.action.action for each in load(tmp_path)] == [
        "checksum",
        "invoice",
        "fetch",
        "report",
        "notify",
        "thumbnails",
    ]


def test_the_errors_shown_are_those_of_the_wrong_example(tmp_path: Path) -> None:
    (wrong,) = blocks("yaml wrong")
    (tmp_path / "wrong.yaml").write_text(wrong, encoding="utf-8")
    with pytest.raises(InvalidDefinition) as caught:
        load(tmp_path)
    assert str(caught.value).replace(str(tmp_path), "actions") == blocks("text")[1].rstrip()


def test_the_refused_parameters_shown_are_those_of_the_first_example(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    (definition,) = load(tmp_path)
    with pytest.raises(InvalidParams) as caught:
        Schema(definition.action.params).check({"pth": "/etc/hosts"})
    assert str(caught.value) == blocks("text")[0].rstrip()


def test_the_python_example_defines_its_action() -> None:
    (source,) = blocks("python")
    module = ModuleType("pictures")
    exec(compile(source, "pictures.py", "exec"), vars(module))  # noqa: S102 - the page's own example
    (definition,) = collect([module])
    assert definition.action.function == "pictures:resize"
    assert definition.action.params["required"] == ["path"]


def test_the_example_of_a_function_that_asks_for_another_attempt_does() -> None:
    (source,) = blocks("python raising")
    scope: dict[str, Any] = {}
    exec(source, scope)  # noqa: S102 - the page's own example
    assert scope["fetch"](quota=1) == "fetched"
    with pytest.raises(RetryAfter, match="the quota is used up") as caught:
        scope["fetch"](quota=0)
    assert caught.value.seconds == 60


def test_the_table_names_every_field() -> None:
    own = [name for name in Action.model_fields if name not in Bounds.model_fields]
    place = own.index("keys")
    in_order = [*own[:place], *Bounds.model_fields, *own[place:]]
    table = PAGE.partition("## Every field")[2].partition("\n### ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == in_order
