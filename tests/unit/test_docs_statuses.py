"""Parts of the pages that are data in the code are what the code says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from docs.generate import PART, PARTS, WHEN, pages, render
from interlock.contract.status import TRANSITIONS, Subject

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_page_says_what_the_code_says(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert render(text) == text, f"{page.name} has drifted: run `.run/venv/bin/python docs/generate.py`"


def test_every_part_stands_on_exactly_one_page() -> None:
    found = [match["name"] for page in pages() for match in PART.finditer(page.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(PARTS)


def test_exactly_the_moves_of_a_leaf_have_a_reason() -> None:
    leaf = {(move.source, move.target, move.owner) for move in TRANSITIONS if move.subject is Subject.LEAF}
    assert set(WHEN) == leaf
