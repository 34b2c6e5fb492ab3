"""`interlock batch`, and what other commands say of batches and their partitions, on a real database."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import sys
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from interlock.cli.app import main
from interlock.client.client import Client
from interlock.contract.batches import Batch
from tests.batches import drives, end, open_batch, seal, sealed_batch
from tests.cli import Interlock, Said
from tests.eventually import eventually

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from pathlib import Path

    from tests.batches import Made
    from tests.world import World

CLI = (sys.executable, "-c", "import sys; from interlock.cli.app import main; sys.exit(main())")
NIGHTLY = {
    "batch": "nightly",
    "params": {"type": "object", "properties": {"upto": {"type": "integer"}}, "required": ["upto"]},
    "partition": {"range": {"from": 1, "to": "{{ params.upto }}", "step": 1}},
    "run": {"action": "job"},
}


@pytest.fixture
def interlock(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Interlock:
    """Run one command on the stage; returns its exit code and what it said."""
    monkeypatch.setenv("INTERLOCK_DATABASE_URL", world.url)

    async def run(*words: object) -> Said:
        capsys.readouterr()  # What an executor's code has logged in this process.
        # In a thread of its own, as a command has an event loop of its own.
        code = await asyncio.to_thread(main, [str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
async def nightly(world: World) -> None:
    """The batch `nightly` is registered."""
    async with Client.connect(world.url) as client:
        await client.apply_actions([Batch.model_validate(NIGHTLY)])


def short(identity: UUID) -> str:
    return str(identity)[-8:]


def error(message: str, fingerprint: str) -> dict[str, Any]:
    """The fields of an end that failed so."""
    return {"error": json.dumps({"class": "ValueError", "message": message, "fingerprint": fingerprint})}


async def ended(world: World, completed: int, *failures: tuple[str, str], **definition: Any) -> Made:  # noqa: ANN401
    """A batch that has ended, of which so many completed and these failed."""
    made = await sealed_batch(world, completed + len(failures), **definition)
    await end(world, *made.partitions[:completed])
    for identity, (message, fingerprint) in zip(made.partitions[completed:], failures, strict=True):
        await end(world, identity, target="failed", **error(message, fingerprint))
    assert (await drives(world, made.id)).ended == [made.id]
    return made


async def batches_of(world: World) -> list[UUID]:
    return [row["execution_id"] for row in await world.tx.fetch("SELECT execution_id FROM batch ORDER BY 1")]


@pytest.mark.usefixtures("nightly")
async def test_a_run_prints_the_id_and_the_batch_is_there(world: World, interlock: Interlock) -> None:
    said = await interlock("batch", "run", "nightly", "-p", "upto=3", "--priority", 7, "--tag", "x", "--pool", "gpu")
    (identity,) = await batches_of(world)
    assert said == (0, f"{identity}\n", "")
    row = await world.tx.fetchrow(
        "SELECT params::text, priority, tags::text, pool FROM execution WHERE id = $1", identity
    )
    assert row is not None
    assert tuple(row) == ('{"upto": 3}', 7, '["x"]', "gpu")


@pytest.mark.usefixtures("nightly")
async def test_a_run_as_json_names_the_batch_and_the_same_key_is_the_same_one(
    world: World, interlock: Interlock
) -> None:
    first = await interlock("batch", "run", "nightly", "--params", '{"upto": 2}', "--key", "k", "--json")
    again = await interlock("batch", "run", "nightly", "--params", '{"upto": 2}', "--key", "k", "--json")
    (identity,) = await batches_of(world)
    assert json.loads(first.out) == {"id": str(identity), "batch": "nightly"}
    assert (again.code, again.out) == (0, first.out)
    assert again.err == f"interlock: requested before, as execution {identity}\n"


async def test_a_definition_from_a_file_needs_no_registration(
    world: World, interlock: Interlock, tmp_path: Path
) -> None:
    file = tmp_path / "once.yaml"
    file.write_text(
        "batch: once\ndeadline: 2h\nparams: {properties: {b: {type: array}}}\n"
        'partition: {product: {z: [1, 2], a: "{{ params.b }}"}}\nrun: {action: job}\nretry: {max_attempts: 2}\n',
        encoding="utf-8",
    )
    said = await interlock("batch", "run", "--file", file, "-p", "b:=[3]")
    (identity,) = await batches_of(world)
    assert said == (0, f"{identity}\n", "")
    stored = Batch.from_stored(
        await world.tx.fetchval("SELECT definition::text FROM batch WHERE execution_id = $1", identity)
    )
    assert (stored.batch, stored.deadline, stored.retry and stored.retry.max_attempts) == ("once", 7200.0, 2)
    assert stored.partition is not None
    assert list(stored.partition.product or {}) == ["z", "a"]


@pytest.mark.usefixtures("nightly")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("batch", "run", "nihgtly"), 1, "batch 'nihgtly' is not registered; did you mean \"nightly\"?"),
        (("batch", "run", "other"), 1, "batch 'other' is not registered; `interlock actions list` shows what is"),
        (("batch", "run", "job"), 1, "'job' is an action, not a batch: `interlock run job`"),
        (("run", "nightly"), 1, "'nightly' is a batch: `interlock batch run nightly`"),
        (("batch", "run"), 2, "name a registered batch, or give --file"),
        (("batch", "run", "nightly"), 1, "params.upto is missing"),
        (("batch", "run", "nightly", "-p", "upto=x"), 1, "params.upto: "),
        (("batch", "run", "--file", "/nowhere.yaml"), 78, "/nowhere.yaml:1: cannot be read"),
        (("batch", "show", "nightly"), 2, "'nightly' is what a batch is called; give the id of one"),
        (("batch", "show", "beefbeef"), 1, "no batch has an id that begins or ends with 'beefbeef'"),
        (("batch", "show", "nonsense"), 1, "'nonsense' is not an id"),
        (("batch", "watch", "0192b0a0-0000-7000-8000-000000000000"), 1, "no execution 0192b0a0-0000-7000-8000"),
        (("batch", "partitions", "beef"), 1, "no batch has an id"),
        (("batch", "restart", "beef"), 1, "no batch has an id"),
        (("batch", "restart", "beef", "--only", "fialed"), 2, "'fialed' is none of failed, partial, "),
        (("batch", "restart", "beef", "--only", "keys="), 2, "'keys=' is none of failed, partial, "),
        (("batch", "cancel", "beef"), 1, "no batch has an id"),
        (("batch", "cancel", "beef", "--reason", ""), 2, "give 1 to 1000 characters"),
        (("batch", "add", "beef"), 2, "give --item, or a file of them with --items"),
        (("batch", "add", "beef", "--item", "a"), 1, "--item: 'a' is not JSON"),
        (("batch", "add", "beef", "--items", "/nowhere"), 1, "--items /nowhere: cannot be read"),
        (("batch", "seal", "beef"), 1, "no batch has an id"),
        (("batch", "shwo", "beef"), 2, "unknown command 'shwo'; did you mean \"show\"?"),
    ],
)
async def test_what_cannot_be_done_is_told_in_one_line_with_its_exit_code(
    world: World, interlock: Interlock, words: tuple[str, ...], code: int, message: str
) -> None:
    said = await interlock(*words)
    assert (said.code, said.out) == (code, "")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert await batches_of(world) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("action: a\ncommand: [x]\n", "holds no batches; --file takes a file with exactly one"),
        ("batch: a\nsealed: false\nrun: {action: job}\n---\nbatch: b\nsealed: false\nrun: {action: job}\n", "holds 2"),
        ("batch: a\nrun: {action: job}\n", "once.yaml:1: partition is missing"),
    ],
)
async def test_a_file_that_is_not_one_batch_is_refused(
    interlock: Interlock, tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "once.yaml"
    file.write_text(text, encoding="utf-8")
    said = await interlock("batch", "run", "--file", file)
    assert (said.code, said.out) == (78, "")
    assert message in said.err


async def test_a_file_whose_batch_is_called_otherwise_is_refused(interlock: Interlock, tmp_path: Path) -> None:
    file = tmp_path / "once.yaml"
    file.write_text("batch: a\nsealed: false\nrun: {action: job}\n", encoding="utf-8")
    said = await interlock("batch", "run", "b", "--file", file)
    assert said.code == 2
    assert "defines 'a', not 'b'; leave the name out" in said.err


async def test_an_id_that_is_no_batch_says_what_it_is(world: World, interlock: Interlock) -> None:
    made = await open_batch(world, 1)
    (other,) = await world.submit(1)
    said = await interlock("batch", "show", short(made.partitions[0]))
    batch = f"batch {made.id}: `interlock batch show {short(made.id)}`"
    assert (said.code, said.err) == (1, f"interlock: {short(made.partitions[0])!r} is partition '0' of {batch}\n")
    said = await interlock("batch", "show", short(other))
    assert said.err == f"interlock: {short(other)!r} is no batch but one execution: `interlock show {short(other)}`\n"
    said = await interlock("batch", "show", other)
    assert f"execution {other} is no batch" in said.err


async def test_the_beginning_of_an_id_means_the_batch_and_not_its_partitions(
    world: World, interlock: Interlock
) -> None:
    made = await open_batch(world, 3)
    said = await interlock("batch", "show", str(made.id)[:13], "--json")
    assert json.loads(said.out)["batch"]["id"] == str(made.id)


async def test_show_tells_how_far_a_batch_is(world: World, interlock: Interlock) -> None:
    made = await sealed_batch(world, 8)
    await end(world, *made.partitions[:3])
    said = await interlock("batch", "show", short(made.id))
    shown = dict(line.split("  ", 1) for line in said.out.splitlines())
    shown = {name: value.strip() for name, value in shown.items()}
    assert (said.code, said.err) == (0, "")
    assert shown["progress"] == "37 %, 3 of 8"
    assert shown["partitions"] == "5 scheduled, 3 completed"
    assert shown["status"] == "running"
    assert "again" not in said.out


async def test_show_groups_failures_and_names_the_command_that_makes_them_again(
    world: World, interlock: Interlock
) -> None:
    made = await ended(world, 2, ("no user 7", "aaaa"), ("no user 8", "aaaa"), ("disk is full", "bbbb"))
    said = await interlock("batch", "show", short(made.id))
    lines = said.out.splitlines()
    assert re.split(r"  +", lines[lines.index("failures") + 1]) == ["partitions", "fingerprint", "error", "first keys"]
    common, rare = lines[lines.index("failures") + 2 :][:2]
    assert re.split(r"  +", common)[:3] == ["2", "aaaa", "ValueError: no user 7"]
    assert sorted(re.split(r"  +", common)[3].split(", ")) == ["2", "3"]
    assert re.split(r"  +", rare) == ["1", "bbbb", "ValueError: disk is full", "4"]
    assert lines[lines.index("again") + 1 :] == [
        f"interlock batch restart {short(made.id)} --only failed",
        f"interlock batch restart {short(made.id)} --only error=aaaa",
    ]
    told = json.loads((await interlock("batch", "show", made.id, "--json")).out)
    assert (told["batch"]["failed"], told["batch"]["percent"]) == (3, 100)
    assert [each["partitions"] for each in told["failures"]] == [2, 1]


@pytest.mark.parametrize(
    ("failures", "definition", "status", "code"),
    [
        (0, {}, "completed", 0),
        (1, {}, "partial", 1),
        (1, {"outcome": {"max_failed": 0}}, "failed", 1),
    ],
)
async def test_a_watch_ends_with_the_batch_and_as_it_does(
    world: World, interlock: Interlock, failures: int, definition: dict[str, Any], status: str, code: int
) -> None:
    made = await ended(world, 1, *[("no", "aaaa")] * failures, **definition)
    said = await interlock("batch", "watch", short(made.id))
    assert said.code == code
    assert said.out.startswith(f"{short(made.id)} cut {status} after ")
    assert ("  1 x ValueError: no (1)\n" in said.out) == bool(failures)
    assert said.err == (f"again: interlock batch restart {short(made.id)} --only failed\n" if failures else "")


async def test_a_watch_prints_an_object_for_each_change_until_the_end(world: World) -> None:
    made = await sealed_batch(world, 2)
    process = await started(world, "batch", "watch", made.id, "--json")
    async with asyncio.timeout(30):
        told = [await object_of(process)]
        await end(world, *made.partitions)
        await drives(world, made.id)
        while told[-1]["status"] == "running":
            told.append(await object_of(process))
        assert await process.wait() == 0
    assert (told[0]["status"], told[0]["scheduled"], told[0]["percent"]) == ("running", 2, 0)
    assert (told[-1]["status"], told[-1]["completed"], told[-1]["percent"]) == ("completed", 2, 100)
    assert [each["percent"] for each in told] == sorted(each["percent"] for each in told)


async def object_of(process: Process) -> dict[str, Any]:
    """Return the next JSON object that a command writes."""
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(await process.stdout.readline())
    return found


async def started(world: World, *words: object) -> Process:
    """Start one command as a process of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    env["INTERLOCK_DATABASE_URL"] = world.url
    return await asyncio.create_subprocess_exec(*CLI, *map(str, words), env=env, stdout=asyncio.subprocess.PIPE)


async def test_a_cancelled_batch_ends_a_watch_with_130(world: World, interlock: Interlock) -> None:
    made = await open_batch(world)
    assert (await interlock("batch", "cancel", short(made.id))).code == 0
    await drives(world, made.id)
    said = await interlock("batch", "watch", short(made.id))
    assert said.code == 130
    assert said.out.startswith(f"{short(made.id)} cut cancelled after ")


@pytest.mark.usefixtures("nightly")
async def test_a_run_that_waits_too_long_says_so_and_the_batch_goes_on(world: World, interlock: Interlock) -> None:
    said = await interlock("batch", "run", "nightly", "-p", "upto=3", "--wait", "--timeout", "0.2")
    (identity,) = await batches_of(world)
    assert said == (124, f"{identity}\n", "stopped waiting after 200ms; the batch goes on\n")
    assert await world.statuses([identity]) == ["running"]


@pytest.mark.usefixtures("nightly")
async def test_a_run_that_waits_tells_how_it_ended(world: World) -> None:
    process = await started(world, "batch", "run", "nightly", "-p", "upto=3", "--wait")
    assert process.stdout is not None
    async with asyncio.timeout(30):
        identity = UUID((await process.stdout.readline()).decode().strip())
        async with Client.connect(world.url) as client:
            await client.batches.cancel(identity)

        async def over() -> bool:
            await drives(world, identity)
            return await world.statuses([identity]) == ["cancelled"]

        await eventually(over)
        assert (await process.stdout.read()).decode().startswith(f"{short(identity)} nightly cancelled after ")
        assert await process.wait() == 130


async def test_a_terminal_shows_the_bar_the_counts_and_what_failed(world: World) -> None:
    made = await sealed_batch(world, 4)
    await end(world, made.partitions[0])
    await end(world, made.partitions[1], target="failed", **error("disk is full", "bbbb"))
    mine, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("INTERLOCK_", "NO_COLOR"))}
    env = clean | {"INTERLOCK_DATABASE_URL": world.url, "TERM": "xterm-256color", "COLUMNS": "160"}
    words = ("batch", "watch", str(made.id))
    process = await asyncio.create_subprocess_exec(*CLI, *words, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = await read_until(mine, "disk is full")
    assert "50 %, 2 of 4" in shown
    await end(world, *made.partitions[2:])
    await drives(world, made.id)
    await read_until(mine, "partial after")
    assert await process.wait() == 1
    os.close(mine)


async def read_until(terminal: int, text: str) -> str:
    """Return what a terminal showed up to `text`."""
    shown = ""
    async with asyncio.timeout(30):
        while text not in shown:
            shown += (await asyncio.to_thread(os.read, terminal, 65536)).decode()
    return shown


async def test_partitions_are_listed_page_by_page_or_all(world: World, interlock: Interlock) -> None:
    made = await ended(world, 3, ("disk is full", "bbbb"))
    first = await interlock("batch", "partitions", short(made.id), "--limit", 3)
    assert first.out.splitlines()[0].split() == ["id", "key", "status", "attempt", "took", "error"]
    assert len(first.out.splitlines()) == 4
    assert first.err.startswith("more: --cursor ")
    rest = await interlock("batch", "partitions", short(made.id), "--cursor", first.err.split()[-1], "--json")
    told = json.loads(rest.out)
    assert (len(told["items"]), told["cursor"]) == (1, None)
    every = await interlock("batch", "partitions", short(made.id), "--all", "--json")
    assert sorted(json.loads(line)["key"] for line in every.out.splitlines()) == ["0", "1", "2", "3"]
    failed = await interlock("batch", "partitions", short(made.id), "--status", "failed")
    assert failed.out.splitlines()[1].endswith("ValueError: disk is full")
    none = await interlock("batch", "partitions", short(made.id), "--status", "skipped")
    assert none == (0, "", "no partitions like that\n")


async def test_a_restart_takes_what_failed_and_leaves_the_rest(world: World, interlock: Interlock) -> None:
    made = await ended(world, 1, ("no user 7", "aaaa"), ("disk is full", "bbbb"))
    said = await interlock("batch", "restart", short(made.id), "--only", "failed")
    assert (said.code, said.out) == (0, f"{short(made.id)} is running again: 2 partitions in epoch 2\n")
    assert said.err == f"follow it: interlock batch watch {short(made.id)}\n"
    said = await interlock("batch", "partitions", made.id, "--superseded", "--status", "failed")
    assert said.out.splitlines()[0].split()[5:8] == ["epoch", "superseded", "by"]
    assert len(said.out.splitlines()) == 3
    # What had ended before is no progress of the new epoch.
    told = json.loads((await interlock("batch", "show", made.id, "--json")).out)["batch"]
    assert (told["completed"], told["rate"], told["eta_seconds"]) == (1, None, None)
    again = await interlock("batch", "restart", short(made.id))
    assert again.code == 1
    assert "is running: cancel it, or wait for its end" in again.err


@pytest.mark.parametrize(
    ("only", "keys"),
    [
        ((), ["1", "2", "3"]),
        (("failed",), ["1", "2", "3"]),
        (("error=aaaa",), ["1", "2"]),
        (("error=aaaa", "error=bbbb"), ["1", "2", "3"]),
        (("keys=0,3",), ["0", "3"]),
        (("key=1",), ["1"]),
        (("failed", "keys=0,3"), ["3"]),
        (("completed",), ["0"]),
        (("timed_out", "cancelled"), ["3"]),
    ],
)
async def test_a_dry_run_shows_what_a_restart_takes_and_changes_nothing(
    world: World, interlock: Interlock, only: tuple[str, ...], keys: list[str]
) -> None:
    made = await sealed_batch(world, 4)
    await end(world, made.partitions[0])
    for identity, fields in zip(
        made.partitions[1:3], [error("no user 7", "aaaa"), error("no user 8", "aaaa")], strict=True
    ):
        await end(world, identity, target="failed", **fields)
    await end(world, made.partitions[3], target="timed_out" if "timed_out" in only else "failed", **error("x", "bbbb"))
    await drives(world, made.id)
    words = [word for each in only for word in ("--only", each)]
    told = json.loads((await interlock("batch", "restart", made.id, *words, "--dry-run", "--json")).out)
    assert sorted(key for share in told["shares"] for key in share["keys"]) == keys
    assert (told["chosen"], told["restarted"], told["epoch"]) == (len(keys), 0, 1)
    said = await interlock("batch", "restart", made.id, *words, "--dry-run")
    number = "1 partition" if len(keys) == 1 else f"{len(keys)} partitions"
    assert said.out.splitlines()[-1] == f"{number} of 4 would be made again"
    assert await world.tx.fetchval("SELECT epoch FROM batch") == 1
    # What was shown is what is taken.
    told = json.loads((await interlock("batch", "restart", made.id, *words, "--json")).out)
    assert (told["restarted"], told["epoch"]) == (len(keys), 2)


async def test_a_restart_of_what_is_not_there_says_so(world: World, interlock: Interlock) -> None:
    made = await ended(world, 1, ("no", "aaaa"))
    said = await interlock("batch", "restart", made.id, "--only", "keys=0,zero")
    assert (said.code, said.err) == (1, f"interlock: no partition of batch {made.id} is called 'zero'\n")
    said = await interlock("batch", "restart", made.id, "--only", "partial", "--dry-run")
    assert said == (0, "", f"no partition of {short(made.id)} is like that: 1 completed, 1 failed\n")
    said = await interlock("batch", "restart", made.id, "--only", "partial")
    assert (said.code, said.out) == (1, "")
    assert "is chosen" in said.err
    assert await world.tx.fetchval("SELECT epoch FROM batch") == 1


async def test_a_cancel_is_told_once_and_again_and_not_of_what_has_ended(world: World, interlock: Interlock) -> None:
    made = await open_batch(world, 2)
    said = await interlock("batch", "cancel", short(made.id), "--reason", "wrong input")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"{short(made.id)} is cancelling: ")
    again = await interlock("batch", "cancel", short(made.id), "--json")
    assert (again.code, json.loads(again.out)) == (
        0,
        {"id": str(made.id), "status": "cancelling", "moved": False},
    )
    over = await ended(world, 1)
    said = await interlock("batch", "cancel", short(over.id))
    assert said == (1, f"{short(over.id)} is completed: nothing to cancel\n", "")


async def test_a_drain_lets_what_runs_finish(world: World, interlock: Interlock) -> None:
    made = await open_batch(world, 1)
    assert (await interlock("batch", "cancel", short(made.id), "--drain")).code == 0
    assert await world.tx.fetchval("SELECT drains FROM batch WHERE execution_id = $1", made.id)


async def test_items_are_added_from_words_files_and_standard_input(
    world: World, interlock: Interlock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await open_batch(world)
    said = await interlock("batch", "add", short(made.id), "--item", "7", "--item", '"a"', "--item", "7")
    assert said == (0, f"added 2 partitions to {short(made.id)}, which has 2 now\n", "1 there already: 7\n")
    file = tmp_path / "items.jsonl"
    file.write_text('"b"\n\n"a"\n', encoding="utf-8")
    told = json.loads((await interlock("batch", "add", made.id, "--items", file, "--json")).out)
    assert told == {"id": str(made.id), "added": ["b"], "known": ["a"], "made": 3}
    monkeypatch.setattr(sys, "stdin", io.StringIO("8\n"))
    said = await interlock("batch", "add", made.id, "--items", "-")
    assert said.out == f"added 1 partition to {short(made.id)}, which has 4 now\n"


async def test_of_a_file_with_a_broken_line_nothing_is_added(
    world: World, interlock: Interlock, tmp_path: Path
) -> None:
    made = await open_batch(world)
    file = tmp_path / "items.jsonl"
    file.write_text('"a"\nb\n', encoding="utf-8")
    said = await interlock("batch", "add", made.id, "--items", file)
    assert (said.code, said.out) == (1, "")
    assert f"{file}:2: 'b' is not JSON" in said.err
    assert await world.tx.fetchval("SELECT total FROM batch") == 0


async def test_a_sealed_batch_takes_nothing_and_is_sealed_once(world: World, interlock: Interlock) -> None:
    made = await open_batch(world, 1)
    assert await interlock("batch", "seal", short(made.id)) == (0, f"{short(made.id)} is sealed: 1 partition\n", "")
    again = await interlock("batch", "seal", short(made.id))
    assert again == (0, f"{short(made.id)} is sealed already: 1 partition\n", "")
    told = json.loads((await interlock("batch", "seal", made.id, "--json")).out)
    assert told == {"id": str(made.id), "sealed": True, "moved": False, "made": 1}
    said = await interlock("batch", "add", made.id, "--item", "1")
    assert (said.code, said.err) == (1, f"interlock: batch {made.id} takes no partitions: it is sealed\n")


@pytest.mark.usefixtures("nightly")
async def test_a_batch_that_plans_is_not_sealed_by_hand(world: World, interlock: Interlock) -> None:
    await interlock("batch", "run", "nightly", "-p", "upto=3")
    (identity,) = await batches_of(world)
    said = await interlock("batch", "seal", identity)
    assert said == (1, "", f"interlock: batch {identity} plans still: seal it when its plan is made\n")


@pytest.mark.usefixtures("nightly")
@pytest.mark.parametrize("words", [(), ("--dry-run",)])
async def test_a_batch_whose_plan_was_never_finished_is_not_restarted(
    world: World, interlock: Interlock, words: tuple[str, ...]
) -> None:
    await interlock("batch", "run", "nightly", "-p", "upto=3")
    (identity,) = await batches_of(world)
    await interlock("batch", "cancel", identity)

    async def over() -> bool:
        await drives(world, identity)
        return await world.statuses([identity]) == ["cancelled"]

    await eventually(over)
    said = await interlock("batch", "restart", identity, *words)
    assert (said.code, said.out) == (1, "")
    instead = "plan it anew with --replan, or start a new one"
    assert said.err == f"interlock: the plan of batch {identity} was never finished: {instead}\n"


async def test_list_leaves_partitions_out_unless_they_are_asked_for(world: World, interlock: Interlock) -> None:
    made = await sealed_batch(world, 2)
    said = await interlock("list")
    assert [line.split()[:4] for line in said.out.splitlines()[1:]] == [
        [short(made.id), "running", "cut", "(batch)"],
    ]
    said = await interlock("list", "--action", "job")
    assert said == (0, "", "no executions like that; --partitions looks in batches, too\n")
    said = await interlock("list", "--partitions", "--action", "job")
    rows = [line.split() for line in said.out.splitlines()]
    assert rows[0][:5] == ["id", "status", "action", "batch", "key"]
    assert sorted(row[2:5] for row in rows[1:]) == [["job", short(made.id), "0"], ["job", short(made.id), "1"]]


async def test_show_of_a_batch_and_of_a_partition_name_each_other(world: World, interlock: Interlock) -> None:
    made = await sealed_batch(world, 2)
    said = await interlock("show", short(made.id))
    more = f"`interlock batch show {short(made.id)}` tells more"
    assert re.search(rf"^progress +0 %, 0 of 2; {more}$", said.out, re.MULTILINE)
    assert re.search(r"^batch +cut$", said.out, re.MULTILINE)
    said = await interlock("show", short(made.partitions[1]))
    assert re.search(rf"^partition +1 of batch {short(made.id)}$", said.out, re.MULTILINE)


@pytest.mark.usefixtures("nightly")
async def test_the_planning_of_a_batch_is_called_that(world: World, interlock: Interlock) -> None:
    await interlock("batch", "run", "nightly", "-p", "upto=3")
    (identity,) = await batches_of(world)
    plan = await world.tx.fetchval("SELECT id FROM execution WHERE parent_id = $1", identity)
    assert (await interlock("list", "--partitions")).out.count("(planning)") == 1
    shown = (await interlock("show", plan)).out
    assert re.search(rf"^planning +of batch {short(identity)}$", shown, re.MULTILINE)
    assert "$plan" not in shown
    said = await interlock("explain", plan)
    assert said.out.startswith(f"{short(plan)} the planning is scheduled: ")
    said = await interlock("explain", identity)
    assert said.out.splitlines()[0] == (
        f"{short(identity)} nightly is running: is being planned, 0 partitions so far; "
        f"`interlock batch show {short(identity)}` tells more"
    )


async def test_explain_says_how_far_a_batch_is_and_whose_a_partition_is(world: World, interlock: Interlock) -> None:
    made = await open_batch(world, 3)
    await world.tx.execute("UPDATE batch SET planned_at = now() WHERE planned_at IS NULL")
    await end(world, made.partitions[0])
    said = await interlock("explain", short(made.id))
    assert said.out.splitlines()[0] == (
        f"{short(made.id)} cut is running: 1 of 3 partitions have ended, 2 are in flight, 0 wait; "
        f"`interlock batch show {short(made.id)}` tells more"
    )
    said = await interlock("explain", short(made.partitions[1]))
    assert re.search(rf"^partition +1 of batch {short(made.id)}$", said.out, re.MULTILINE)
    await end(world, *made.partitions[1:])
    said = await interlock("explain", short(made.id))
    assert f"more may come: `interlock batch seal {short(made.id)}`" in said.out
    await seal(world, made.id)
    await drives(world, made.id)
    assert "ended as completed" in (await interlock("explain", short(made.id))).out
