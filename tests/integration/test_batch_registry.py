"""Registering batches beside actions: versions, names, what they start, withdrawal; and reading them again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from interlock.acceptance.catalog import Catalog
from interlock.contract.batches import Batch
from interlock.contract.definitions import Action
from interlock.contract.errors import InvalidDefinition, InvalidParams
from tests.cli import Interlock, interlock_on

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from interlock.acceptance.entries import BatchEntry
    from interlock.client import Client

YAML = """\
action: step
command: [echo, "{{ params.day }}"]
---
batch: days
params: {type: object, required: [last]}
partition: {range: {from: 2026-01-01, to: "{{ params.last }}", step: 1d}}
run: {action: step, params: {day: "{{ item }}"}}
"""


@pytest.fixture
def interlock(database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Interlock:
    """Run one command on this test's database."""
    return interlock_on(database_url, monkeypatch, capsys)


def job(name: str = "job", **fields: object) -> Action:
    return Action.model_validate({"action": name, "command": ["true"], **fields})


def batch(name: str = "days", **fields: Any) -> Batch:  # noqa: ANN401 - any field
    return Batch.model_validate({"batch": name, "partition": {"items": [1]}, "run": {"action": "job"}, **fields})


async def listed(client: Client) -> list[tuple[str, int, bool]]:
    return [(each.name, each.version, each.withdrawn_at is not None) for each in await client.batches_list()]


async def test_only_what_changed_gets_a_new_version(client: Client) -> None:
    first = await client.apply_actions([batch(), job(), batch("other")])
    second = await client.apply_actions([batch(priority=1), batch("other"), batch("third"), job()])

    assert (first.added, first.changed, first.unchanged) == (("days", "job", "other"), (), ())
    assert (second.added, second.changed, second.unchanged) == (("third",), ("days",), ("job", "other"))
    assert await listed(client) == [("days", 2, False), ("other", 1, False), ("third", 1, False)]
    assert (await client.batches_list())[0].batch == batch(priority=1)


async def test_the_order_of_a_products_names_survives_the_database(client: Client) -> None:
    product = {"day": ["2026-01-01"], "z": [1], "user": ["alice"]}
    await client.apply_actions([job(), batch(partition={"product": product})])
    (found,) = await client.batches_list()
    assert found.batch.partition is not None
    assert list(found.batch.partition.product or ()) == ["day", "z", "user"]


async def test_only_pruning_withdraws_and_applying_brings_back(client: Client) -> None:
    await client.apply_actions([job(), batch()])
    assert (await client.apply_actions([job()])).withdrawn == ()
    assert (await client.apply_actions([job()], prune=True)).withdrawn == ("days",)
    assert (await client.apply_actions([job()], prune=True)).withdrawn == ()
    assert await listed(client) == [("days", 1, True)]
    assert (await client.apply_actions([batch()])).added == ("days",)
    assert await listed(client) == [("days", 2, False)]


async def test_a_batch_that_starts_an_unknown_action_is_refused_with_the_nearest(client: Client) -> None:
    await client.apply_actions([job("report"), job("plan-it"), job("gone")])
    await client.apply_actions([job("report"), job("plan-it")], prune=True)
    wrong = batch(
        run={"action": "raport"},
        partition={"action": "plan"},
        notify=[{"on": ["finished"], "action": "report"}, {"on": ["failed"], "action": "gone"}],
    )
    with pytest.raises(InvalidDefinition) as caught:
        await client.apply_actions([wrong, job("new")])
    starts = 'the batch days starts the action "'
    assert str(caught.value).splitlines() == [
        f'{starts}raport" (run.action), which is neither registered nor among these; did you mean "report"?',
        f'{starts}plan" (partition.action), which is neither registered nor among these; did you mean "plan-it"?',
        f'{starts}gone" (notify[1].action), which is neither registered nor among these; define it, too',
    ]
    assert [each.name for each in await client.actions_list() if each.withdrawn_at is None] == ["plan-it", "report"]
    assert await listed(client) == []


async def test_pruning_may_not_leave_a_batch_without_its_action(client: Client) -> None:
    await client.apply_actions([job(), batch()])
    with pytest.raises(InvalidDefinition, match='starts the action "job"'):
        await client.apply_actions([batch()], prune=True)


async def test_an_action_and_a_batch_never_share_a_name(client: Client) -> None:
    await client.apply_actions([job(), batch()])
    told = '"{}" would be an action and a batch; rename one'
    with pytest.raises(InvalidDefinition, match=told.format("days")):
        await client.apply_actions([job("days")])
    with pytest.raises(InvalidDefinition, match=told.format("job")):
        await client.apply_actions([batch("job")])
    with pytest.raises(InvalidDefinition, match=told.format("same")):
        await client.apply_actions([job("same"), batch("same")])

    assert (await client.apply_actions([job(), job("days")], prune=True)).added == ("days",)
    assert await listed(client) == [("days", 1, True)]


async def current(catalog: Catalog, connection: asyncpg.Connection) -> BatchEntry | None:
    """Return the entry of the batch `days` that may be started."""
    entry = (await catalog.batches(connection, ["days"])).get("days")
    return None if entry is None or entry.withdrawn else entry


async def test_the_catalog_gives_the_current_version_and_keeps_it(
    client: Client, connection: asyncpg.Connection
) -> None:
    catalog = Catalog()
    assert await current(catalog, connection) is None
    await client.apply_actions([job(), batch(params={"required": ["a"]})])
    first = await current(catalog, connection)
    assert first is not None
    assert (first.batch, first.version) == (batch(params={"required": ["a"]}), 1)
    with pytest.raises(InvalidParams, match=r"params\.a is missing"):
        first.schema.check({})
    assert await current(catalog, connection) is first

    await client.apply_actions([batch(priority=1)])
    second = await current(catalog, connection)
    assert second is not None
    assert (second.batch.priority, second.version) == (1, 2)
    assert await catalog.names(connection) == ["days", "job"]

    await client.apply_actions([job()], prune=True)
    assert await current(catalog, connection) is None
    assert await catalog.names(connection) == ["job"]


async def test_a_batch_of_a_newer_version_is_none_here_and_said_to_be_one(
    client: Client, connection: asyncpg.Connection
) -> None:
    insert = "INSERT INTO batch_definition (name, version, definition, checksum) VALUES ('new', 1, $1, 'x')"
    await connection.execute(insert, json.dumps({**batch("new").to_stored(), "spread": "even"}))
    assert await Catalog().batches(connection, ["new"]) == {}
    (found,) = await client.batches_list()
    with pytest.raises(InvalidDefinition, match="batch new was registered by a newer version of Interlock"):
        _ = found.batch


async def test_a_folder_of_both_kinds_is_checked_applied_and_listed(interlock: Interlock, tmp_path: Path) -> None:
    file = tmp_path / "days.yaml"
    file.write_text(YAML.replace("step: 1d", "stp: 1d"))
    said = await interlock("actions", "check", tmp_path)
    assert (said.code, said.err.splitlines()) == (
        78,
        [
            f"{file}:6: partition.range.step: is missing; add it",
            f'{file}:6: partition.range.stp: unknown field; did you mean "step"?',
        ],
    )

    file.write_text(YAML)
    said = await interlock("actions", "check", tmp_path, "--json")
    assert json.loads(said.out) == {
        "valid": True,
        "actions": [{"name": "step", "file": str(file), "line": 1}],
        "batches": [{"name": "days", "file": str(file), "line": 4}],
    }
    assert (await interlock("actions", "apply", tmp_path)).out == "added: days, step\n"
    rows = [line.split() for line in (await interlock("actions", "list")).out.splitlines()[1:]]
    assert rows == [
        ["step", "1", "command", "default", "none", "0", "0"],
        ["days", "1", "batch", "of", "step", "default", "32"],
    ]
    kinds = [(each["kind"], each["name"]) for each in json.loads((await interlock("actions", "list", "--json")).out)]
    assert kinds == [("action", "step"), ("batch", "days")]

    file.write_text(YAML.partition("---\n")[2])
    said = await interlock("actions", "apply", tmp_path, "--prune")
    assert said.code == 78
    assert 'the batch days starts the action "step" (run.action), which is neither registered nor among' in said.err
    file.unlink()
    assert (await interlock("actions", "apply", tmp_path, "--prune")).out.startswith("withdrawn: days, step\n")
    assert "days" not in (await interlock("actions", "list")).out
    assert "withdrawn" in (await interlock("actions", "list", "--withdrawn")).out
