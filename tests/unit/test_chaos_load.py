"""What the trials ask for, and how their actions bear witness to themselves."""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from chaos.actions import COMMAND, NOTES, ODD, RUNS, SLOTS, witnessed
from chaos.ear import readable
from chaos.flavours import ALL, FLAVOURS, ODD_OUTPUT, definitions, plan
from chaos.runner import SCENARIOS, chosen
from chaos.scenarios.input import bad_messages
from interlock.contract import events
from interlock.contract.errors import Misconfigured

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    for folder in (RUNS, SLOTS):
        (tmp_path / folder).mkdir()
    return tmp_path


def notes(evidence: Path) -> list[str]:
    file = evidence / NOTES
    return file.read_text().splitlines() if file.exists() else []


def test_the_same_seed_asks_for_the_same_and_another_one_for_something_else() -> None:
    first, again, other = (plan(random.Random(seed), 200, "chaos", "/e") for seed in (1, 1, 2))  # noqa: S311
    told = [
        [(each.flavour, {**each.request, "id": ""}, each.limits) for each in found] for found in (first, again, other)
    ]
    assert told[0] == told[1] != told[2]
    assert len({each.id for each in (*first, *again, *other)}) == 600


def test_a_load_has_something_of_every_flavour_in_about_its_share() -> None:
    found = Counter(each.flavour for each in plan(random.Random(3), 5000, "chaos", "/e"))  # noqa: S311
    assert sum(flavour.share for flavour in FLAVOURS) == 100
    assert {name: round(count / 50) for name, count in found.items()} == {
        flavour.name: pytest.approx(flavour.share, abs=2) for flavour in FLAVOURS
    }


def test_extra_flavours_come_once_for_each_kind_of_odd_output() -> None:
    found = plan(random.Random(3), 0, "chaos", "/e", [ODD_OUTPUT])  # noqa: S311
    assert {each.request["params"]["kind"] for each in found} == set(ODD)


def test_all_names_begin_with_the_prefix_and_each_limit_is_one_of_the_definitions() -> None:
    actions = {action.action: action for action in definitions("chaos-1f", "pool-1f")}
    assert set(actions) == {f"chaos-1f.{flavour.name}" for flavour in ALL}
    assert {action.pool for action in actions.values()} == {"pool-1f"}
    for asked in plan(random.Random(4), 500, "chaos-1f", "/e"):  # noqa: S311
        bounds = actions[asked.request["action"]].bounds()
        group = asked.request["params"].get("group")
        limits = {name.replace("{{ params.group }}", str(group)): bound.limit for name, bound in bounds.items()}
        assert dict(asked.limits) == {name: limit for name, limit in limits.items() if limit is not None}


def test_two_attempts_at_once_are_noted_and_two_in_turn_are_not(evidence: Path) -> None:
    with witnessed(evidence, "a", "", 0):
        assert notes(evidence) == []
        with witnessed(evidence, "a", "", 0), witnessed(evidence, "b", "", 0):
            assert notes(evidence) == ["overlap a"]
    with witnessed(evidence, "a", "", 0):
        assert notes(evidence) == ["overlap a"]


def test_one_holder_more_than_a_limit_is_noted(evidence: Path) -> None:
    with witnessed(evidence, "a", "k", 2), witnessed(evidence, "b", "k", 2), witnessed(evidence, "c", "other", 2):
        assert notes(evidence) == []
        with witnessed(evidence, "d", "k", 2):
            assert notes(evidence) == ["over k"]


def test_a_command_holds_the_same_locks(evidence: Path) -> None:
    def run(identity: str, limit: int) -> list[str]:
        command = ["sh", "-c", COMMAND, "sh", str(evidence), "k", str(limit), "0"]
        subprocess.run(command, check=True, env={"PATH": os.environ["PATH"], "INTERLOCK_EXECUTION_ID": identity})
        return notes(evidence)

    assert run("a", 0) == []
    with witnessed(evidence, "a", "k", 1):
        assert run("b", 0) == []
        assert run("b", 2) == []
        assert run("a", 1) == ["overlap a", "over k"]
    assert run("a", 1) == ["overlap a", "over k"]


def test_only_harmless_scenarios_may_be_run_against_a_deployment() -> None:
    assert [scenario.name for scenario in chosen((), harmless=False)] == list(SCENARIOS)
    assert {scenario.name for scenario in chosen((), harmless=True)} == {"calm", "kill-random", "freeze"}
    with pytest.raises(Misconfigured, match="broker-wipe breaks servers"):
        chosen(["broker-wipe"], harmless=True)
    with pytest.raises(Misconfigured, match=r"'brokr-wipe'.*broker-wipe"):
        chosen(["brokr-wipe"], harmless=False)


def test_no_bad_message_can_be_accepted_and_a_subscriber_bears_each() -> None:
    for body, content_type in bad_messages("chaos.plain"):
        found, _ = events.decode(body, content_type)
        assert all(isinstance(event, events.Requested) and event.data["id"] == "7" for event in found)
        assert all(event["source"] == "/forger" for event in readable(body))
