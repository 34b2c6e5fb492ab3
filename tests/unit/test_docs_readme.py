"""The README's commands exist, and its first action is one: loaded, and refused with the words it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from interlock.actions.files import load
from interlock.actions.validation import Schema
from interlock.cli.app import COMMANDS, Branch
from interlock.contract.errors import InvalidParams

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


def commands(program: str) -> list[list[str]]:
    """Return the arguments of each use of a program in the README's shell blocks."""
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    return [line[line.index(program) + 1 :] for line in lines if program in line]


def test_dev_knows_every_command_shown() -> None:
    script = (ROOT / "dev").read_text(encoding="utf-8")
    known = re.findall(r"^(\w+)\)", script, re.MULTILINE)
    shown = [arguments[0] for arguments in commands("./dev")]
    assert sorted(set(shown) - set(known)) == []
    assert {"demo", "test"} <= set(shown)


def test_the_readme_shows_what_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [shlex.split(line)[1:] for line in script if line.startswith("./dev ")] == commands("./dev")[1:3]


def test_the_command_line_knows_every_command_shown() -> None:
    assert commands("interlock")
    for arguments in commands("interlock"):
        branch: object = COMMANDS
        for word in arguments:
            if not isinstance(branch, Branch):
                break
            assert word in branch.leaves, arguments
            branch = branch.leaves[word]


def test_the_first_action_greets_and_refuses_as_shown(tmp_path: Path) -> None:
    (definition,) = blocks("yaml")
    (tmp_path / "greet.yaml").write_text(definition, encoding="utf-8")
    (loaded,) = load(tmp_path)
    (source,) = blocks("python")
    module = ModuleType("greetings")
    exec(compile(source, "greetings.py", "exec"), vars(module))  # noqa: S102 - the page's own example
    assert loaded.action.function == "greetings:greet"
    assert callable(module.greet)
    with pytest.raises(InvalidParams) as refused:
        Schema(loaded.action.params).check({"nam": "Ada"})
    assert f"interlock: {refused.value}\n" in PAGE
