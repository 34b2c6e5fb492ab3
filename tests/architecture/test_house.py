"""The house rules that no linter knows: small files with a purpose on top, short functions, laws where they bind."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
PRODUCT = sorted(path for top in ("interlock", "executor", "worker", "chaos") for path in (ROOT / top).rglob("*.py"))
FORBIDDEN = re.compile(r"utils?|helpers?|common|base|misc|core|.*manager.*")
MOST_LINES_IN_A_FUNCTION = 50
MOST_LINES_IN_A_MODULE = 300
MOST_LINES_IN_A_DOCSTRING = 5
MOST_BROAD_EXCEPTS = 6

LAWS = {
    "Law 1. The row is the truth; a message is a hint.": [
        "interlock/contract/events.py",
        "interlock/acceptance/store.py",
        "interlock/client/client.py",
        "executor/handlers/requested.py",
        "executor/rules/completion.py",
        "executor/rules/status.py",
        "worker/claim.py",
        "migrations/0004_acceptance.sql",
    ],
    "Law 2. Each move has one owner and one guarded statement": [
        "interlock/contract/status.py",
        "executor/handlers/status_changed.py",
        "worker/finish.py",
        "migrations/0006_batches.sql",
    ],
    "Law 3. Each message type has one publisher.": ["interlock/contract/topology.py"],
    "Law 4. Nothing is published that is not committed; nothing committed is left unpublished.": [
        "interlock/adapters/outbox.py",
        "migrations/0001_schema.sql",
        "migrations/0002_moves.sql",
    ],
    "Law 5. Handling twice equals handling once": [
        "executor/handlers/completed.py",
        "executor/handlers/status_changed.py",
        "executor/rules/completion.py",
        "executor/rules/status.py",
        "executor/handlers/callbacks.py",
        "executor/handlers/parents.py",
        "executor/rules/batch.py",
        "worker/planning.py",
        "migrations/0003_admission.sql",
        "migrations/0006_batches.sql",
    ],
    "Law 7. A parent never holds what its children need": [
        "interlock/acceptance/partitions.py",
        "migrations/0003_admission.sql",
        "migrations/0006_batches.sql",
    ],
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    """Walk every node of these kinds in the product's code."""
    for path in PRODUCT:
        for node in ast.walk(tree(path)):
            if isinstance(node, kinds):
                yield path, node


def test_every_module_says_on_top_what_it_is() -> None:
    wrong = []
    for path in PRODUCT:
        docstring = ast.get_docstring(tree(path))
        if docstring is None or not docstring.split("\n")[0].rstrip().endswith((".", ":")):
            wrong.append(named(path))
    assert wrong == []


def test_a_module_keeps_its_introduction_and_itself_short() -> None:
    long = {}
    for path in PRODUCT:
        prose = [
            line for line in (ast.get_docstring(tree(path)) or "").split("\n") if line and not line.startswith(" ")
        ]
        lines = path.read_text(encoding="utf-8").count("\n")
        if len(prose) > MOST_LINES_IN_A_DOCSTRING or lines > MOST_LINES_IN_A_MODULE:
            long[named(path)] = (len(prose), lines)
    assert long == {}


def test_no_file_has_a_name_that_says_nothing() -> None:
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert [named(path) for path in [*PRODUCT, *tests] if FORBIDDEN.fullmatch(path.stem)] == []


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{named(path)}:{node.name}": node.end_lineno - node.lineno + 1
        for path, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_LINES_IN_A_FUNCTION
    }
    assert long == {}


def test_broad_excepts_are_few_and_each_says_why() -> None:
    found = []
    for path, node in nodes(ast.ExceptHandler):
        assert isinstance(node, ast.ExceptHandler)
        caught = ast.unparse(node.type) if node.type else "everything"
        if node.type is None or re.search(r"\b(Base)?Exception\b", caught):
            lines = path.read_text(encoding="utf-8").splitlines()
            around = lines[node.lineno - 2 : node.lineno + 1]
            found.append((named(path), node.lineno, any("#" in line for line in around)))
    assert [where for *where, explained in found if not explained] == []
    assert len(found) <= MOST_BROAD_EXCEPTS, "\n".join(map(str, found))


def test_no_task_is_let_loose() -> None:
    loose = [
        f"{named(path)}:{node.lineno}"
        for path, node in nodes(ast.Call)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func)
        in {"asyncio.create_task", "asyncio.ensure_future", "loop.create_task", "create_task"}
    ]
    assert loose == []


def test_nothing_is_put_off_in_a_comment() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    files = [*PRODUCT, *(ROOT / "migrations").glob("*.sql"), *(ROOT / "executor/sql").glob("*.sql")]
    assert [named(path) for path in files if marks.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("law", LAWS)
def test_a_law_stands_in_the_files_that_it_binds_and_nowhere_else(law: str) -> None:
    number = law.partition(".")[0]
    found = set()
    for path in [*PRODUCT, *(ROOT / "migrations").glob("*.sql")]:
        told = re.sub(r"\s*\n(-- )?\s*", " ", path.read_text(encoding="utf-8"))
        if law in told:
            found.add(named(path))
        assert number + "." not in told or law in told, f"{named(path)} words {number} in another way"
    assert found == set(LAWS[law])
