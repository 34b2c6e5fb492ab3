"""The page about events: every example is one that the contract reads, and no type is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path

from interlock.contract.events import SINGLE, TYPES, decode

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
EXAMPLES: list[str] = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_example_is_read_by_the_contract() -> None:
    for example in EXAMPLES:
        found, unusable = decode(example.encode(), SINGLE)
        assert (len(found), unusable) == (1, [])


def test_every_type_is_shown_once() -> None:
    assert sorted(json.loads(example)["type"] for example in EXAMPLES) == sorted(TYPES)
