"""Decorated functions are definitions too: found by module, and held against the files."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from interlock.actions.modules import load_modules
from interlock.contract.errors import InvalidDefinition

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
from interlock import action

@action("jobs.greet", limit=2)
def greet(name: str) -> str:
    return f"Hello, {name}!"
"""


def interlock(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in `folder`, with nothing of ours in its environment."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    command = [sys.executable, "-c", "import sys; from interlock.cli.app import main; sys.exit(main())", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_a_module_gives_the_definitions_of_its_decorated_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "decorated_jobs.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    [definition] = load_modules(["decorated_jobs"])
    assert (definition.action.action, definition.action.limit) == ("jobs.greet", 2)
    assert definition.action.function == "decorated_jobs:greet"


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidDefinition, match="no_such_jobs: the module cannot be imported"):
        load_modules(["no_such_jobs"])


def test_the_command_line_checks_files_and_modules_together(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(MODULE)
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "other.yaml").write_text("action: other\ncommand: ['true']\n")
    found = interlock(tmp_path, "actions", "check", "actions", "--module", "jobs")
    assert (found.returncode, found.stdout) == (0, "2 definitions can be used\n")


def test_one_name_in_a_file_and_in_a_module_is_refused_naming_both(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(MODULE)
    (tmp_path / "actions").mkdir()
    (tmp_path / "actions" / "same.yaml").write_text("action: jobs.greet\ncommand: ['true']\n")
    found = interlock(tmp_path, "actions", "check", "actions", "-m", "jobs")
    assert found.returncode == 78
    assert "jobs.greet is already defined at actions/same.yaml:1" in found.stderr
