"""Limits of a command as people write them, and which actions may have them."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from interlock.contract.definitions import Action
from interlock.contract.resources import LARGEST, Resources, size


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (1, 1),
        ("1B", 1),
        ("64kB", 64_000),
        ("64KiB", 65_536),
        ("512MiB", 512 << 20),
        ("1.5 GiB", 3 << 29),
        ("2GB", 2_000_000_000),
        ("1TiB", 1 << 40),
        (LARGEST, LARGEST),
    ],
)
def test_a_size_is_bytes_or_a_number_with_a_unit(written: object, meant: int) -> None:
    assert size(written) == meant


@pytest.mark.parametrize(
    "written", ["512", "512M", "512mb", "1 KB", "-1B", "", "1e3B", True, 1.5, None, 0, LARGEST + 1]
)
def test_anything_else_is_no_size(written: object) -> None:
    with pytest.raises(ValueError, match="size"):
        size(written)


@pytest.mark.parametrize("written", ["500ms", "1.5s", 0, "0s"])
def test_cpu_time_is_whole_seconds(written: object) -> None:
    with pytest.raises(ValidationError, match="whole seconds"):
        Resources.model_validate({"cpu": written})


def test_limits_are_stored_in_bytes_and_seconds_and_only_those_that_are_set() -> None:
    given = {"action": "a", "command": ["true"], "resources": {"memory": "1KiB", "cpu": "2m"}}
    action = Action.model_validate(given)
    assert json.loads(action.canonical())["resources"] == {"memory": 1024, "cpu": 120.0}
    assert Action.from_stored(action.to_stored()) == action
    assert "resources" not in Action.model_validate({"action": "a", "command": ["true"], "resources": {}}).to_stored()


def test_limits_are_for_commands_and_isolation_is_for_functions() -> None:
    with pytest.raises(ValidationError, match="resources are limits of a command"):
        Action.model_validate({"action": "a", "function": "m:f", "resources": {"files": 100}})
    with pytest.raises(ValidationError, match="isolation is for functions"):
        Action.model_validate({"action": "a", "command": ["true"], "isolation": "process"})
    isolated = Action.model_validate({"action": "a", "function": "m:f", "isolation": "process"})
    assert isolated.to_stored() == {"action": "a", "function": "m:f", "isolation": "process"}
