"""Rules about SQL that only reading keeps: guarded moves, sorted locks, one publisher, nothing that cannot prepare."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from interlock.contract.topology import Topology, permissions

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
STATEMENTS = sorted(path for top in ("executor", "worker", "interlock") for path in (ROOT / top).rglob("sql/*.sql"))
MIGRATIONS = sorted((ROOT / "migrations").glob("*.sql"))
UPDATE = re.compile(r"UPDATE execution\b(?P<rest>.*?)(?=\bRETURNING\b|;|\Z|\n\s*\),? )", re.DOTALL)
LOCK = re.compile(
    r"(?:SELECT|PERFORM)\b(?P<select>(?:(?!\b(?:SELECT|PERFORM)\b).)*?)\bFOR (?:NO KEY UPDATE|UPDATE|KEY SHARE|SHARE)",
    re.DOTALL,
)
TABLES = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO|USING)\s+(?P<table>[a-z_]+)")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text(path: Path) -> str:
    """Return the SQL of a file without its comments."""
    return re.sub(r"--.*", "", path.read_text(encoding="utf-8"))


def unguarded(sql: str) -> Iterator[str]:
    """Find each move of an execution that does not ask where it stands."""
    for found in UPDATE.finditer(sql):
        assigned, _, condition = found["rest"].partition("WHERE")
        if re.search(r"\bSET\b.*?(?<![.\w])status\s*=", assigned, re.DOTALL) and "status" not in condition:
            yield found[0]


def unsorted(sql: str) -> Iterator[str]:
    """Find each statement that locks several rows in whatever order they come."""
    for found in LOCK.finditer(sql):
        many = re.search(r"= ANY\s*\(|\bIN\s*\(", found["select"]) or "WHERE" not in found["select"]
        if many and "ORDER BY" not in found["select"]:
            yield found[0]


def test_there_are_statements_to_judge() -> None:
    assert len(STATEMENTS) > 30
    assert len(MIGRATIONS) >= 3


@pytest.mark.parametrize("path", [*STATEMENTS, *MIGRATIONS], ids=named)
def test_no_status_is_written_without_asking_for_the_one_before(path: Path) -> None:
    assert list(unguarded(text(path))) == []


def test_an_unguarded_write_of_a_status_would_be_found() -> None:
    bad = "UPDATE execution SET status = 'failed' WHERE id = $1"
    assert list(unguarded(bad)) == [bad]
    assert list(unguarded(f"WITH m AS (\n {bad} RETURNING id\n) SELECT status FROM m"))  # noqa: S608 - never run == [f"{bad} "]
    assert list(unguarded("UPDATE execution e SET moves = 1, status = 'x' FROM t WHERE e.id = t.id;")) != []
    assert list(unguarded("UPDATE execution SET status = 'x' WHERE id = $1 AND status = 'y'")) == []
    assert list(unguarded("UPDATE execution SET result = $2 WHERE id = $1")) == []


@pytest.mark.parametrize("path", [*STATEMENTS, *MIGRATIONS], ids=named)
def test_several_rows_are_locked_in_one_order(path: Path) -> None:
    assert list(unsorted(text(path))) == []


def test_an_unsorted_lock_would_be_found() -> None:
    assert list(unsorted("SELECT 1 FROM queue WHERE id = ANY($1) FOR UPDATE")) != []
    assert list(unsorted("SELECT 1 FROM queue WHERE id = ANY($1) ORDER BY id FOR UPDATE")) == []
    assert list(unsorted("SELECT 1 FROM queue WHERE id = $1 FOR UPDATE")) == []


def test_admission_locks_keys_before_executions() -> None:
    body = text(ROOT / "migrations/0003_admission.sql")
    admit = body[body.index("CREATE FUNCTION admit(") :]
    lock = "FROM queue WHERE id = ANY(locked) ORDER BY id FOR NO KEY UPDATE"
    assert admit.index(lock) < admit.index("decide(") < admit.index("admit_locked(locked")
    body = text(ROOT / "migrations/0004_acceptance.sql")
    accept = body[body.index("CREATE FUNCTION accept(") :]
    assert accept.index("FOR NO KEY UPDATE", accept.index("strong ||")) < accept.index("INSERT INTO execution (")


@pytest.mark.parametrize("path", sorted((ROOT / "worker/sql").glob("*.sql")), ids=named)
def test_a_worker_touches_no_key_lane_or_slot(path: Path) -> None:
    assert {found["table"] for found in TABLES.finditer(text(path))}.isdisjoint({"queue", "lane", "waiting", "slot"})


@pytest.mark.parametrize("top", ["executor", "worker"])
def test_each_statement_has_the_name_of_the_function_that_runs_it(top: str) -> None:
    stores = [path for path in (ROOT / top).glob("*.py") if "SQL[" in path.read_text(encoding="utf-8")]
    functions = {
        node.name
        for path in stores
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {path.stem for path in (ROOT / top / "sql").glob("*.sql")} - functions == set()


@pytest.mark.parametrize("folder", sorted({path.parent for path in STATEMENTS}), ids=named)
def test_every_statement_is_run_and_every_one_that_is_run_exists(folder: Path) -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in folder.parent.glob("*.py"))
    have = {path.stem for path in folder.glob("*.sql")}
    assert {name for name in have if not re.search(rf"[\"']{name}[\"']", code)} == set()
    assert set(re.findall(r"\bSQL\[\"(\w+)\"\]", code)) - have == set()


async def test_every_statement_prepares_on_a_migrated_database(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    broken = {}
    for path in STATEMENTS:
        try:
            await connection.prepare(path.read_text(encoding="utf-8"))
        except asyncpg.PostgresError as error:
            broken[named(path)] = str(error)
    await connection.close()
    assert broken == {}


def test_completions_are_written_for_workers_and_by_no_one_else() -> None:
    writers = [
        line.strip()
        for path in [*STATEMENTS, *MIGRATIONS]
        for line in text(path).splitlines()
        if "'completions'" in line
    ]
    told = (
        "SELECT as_message('worker', 'completions', 'execution.completed.' || target, count(*), string_agg(body, ','))"
    )
    assert writers == [told]
    assert Topology().completions.writers == {"worker"}
    assert not re.search(permissions()["executor"].write, Topology().completions.name)


def test_the_code_of_the_executor_never_names_the_exchange_of_completions() -> None:
    for path in (ROOT / "executor").rglob("*.py"):
        names = {
            node.attr if isinstance(node, ast.Attribute) else node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute | ast.Constant)
        }
        assert "completions" not in names, path
