"""Each entry of the tables of mutants still fits: its guard is there once, and the test that is named for it exists."""

from __future__ import annotations

import ast
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.mutate import Breach, breaches, document, table, verdict_of
from tests.mutate import Finding as Made

ROOT = Path(__file__).parent.parent.parent
ALL = breaches()
CASE = '<testcase classname="m" name="t">{}</testcase>'


def functions_of(file: str) -> set[str]:
    module = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("breach", ALL, ids=lambda breach: breach.name)
def test_a_guard_is_where_its_entry_says_and_its_test_exists(breach: Breach) -> None:
    source = (ROOT / breach.file).read_text(encoding="utf-8")
    assert breach.applied(source) != source
    file, _, test = breach.caught_by.partition("::")
    assert test in functions_of(file)


def test_every_guard_has_a_name_of_its_own() -> None:
    names = [breach.name for breach in ALL]
    assert sorted(set(names)) == sorted(names)


def breach_of(within: str) -> Breach:
    return Breach(name="x", file="y", old="guard", new="", caught_by="z", within=within)


def test_a_guard_is_taken_away_where_it_stands_and_nowhere_else() -> None:
    assert breach_of("").applied("a guard b") == "a  b"
    source = "guard CREATE FUNCTION f() $$ guard $$; guard"
    assert breach_of("f").applied(source) == "guard CREATE FUNCTION f() $$  $$; guard"


@pytest.mark.parametrize(
    ("source", "within", "why"),
    [
        ("nothing", "", "0 times"),
        ("guard guard", "", "2 times"),
        ("CREATE FUNCTION f() $$ other $$; guard", "f", "0 times"),
        ("CREATE FUNCTION other() $$ guard $$;", "f", "no function f here"),
    ],
)
def test_a_guard_that_does_not_stand_there_once_is_not_taken_away(source: str, within: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        breach_of(within).applied(source)


@pytest.mark.parametrize(
    ("cases", "verdict"),
    [
        (CASE.format("<failure message='no'/>"), "caught"),
        (CASE.format("") + CASE.format("<failure message='no'/>"), "caught"),
        (CASE.format("<error message='failed on teardown with \"E\"'/>"), "caught"),
        (
            CASE.format("<error message='failed on setup with \"E\"'/>"),
            'the test could not be run: failed on setup with "E"',
        ),
        (CASE.format("<skipped message='no'/>"), "the test was skipped"),
        (CASE.format("") + CASE.format("<skipped message='no'/>"), "SURVIVED"),
        (CASE.format(""), "SURVIVED"),
        ("", "the test was skipped"),
    ],
)
def test_only_a_test_that_fails_catches_a_mutant(cases: str, verdict: str) -> None:
    assert verdict_of(ET.fromstring(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")) == verdict  # noqa: S314 - ours


def test_the_findings_are_told_in_columns_and_as_one_document() -> None:
    findings = [
        Made(guard="a guard", where="a.sql", caught_by="tests/x.py::test_it", verdict="caught", seconds=1.0),
        Made(guard="another", where="b.py", caught_by="tests/x.py::test_that", verdict="SURVIVED", seconds=2.5),
    ]
    assert table(findings).splitlines() == [
        "GUARD TAKEN AWAY  WHERE  CAUGHT BY  VERDICT",
        "a guard           a.sql  test_it    caught",
        "another           b.py   test_that  SURVIVED",
    ]
    told = document(findings)
    assert (told["mutants"], told["not_caught"]) == (2, 1)
