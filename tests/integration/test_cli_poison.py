"""`interlock poison`: what is listed and shown, what a replay writes, and what may be thrown away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from interlock.client import Client
from interlock.client.poison import PoisonSelection, Unfit, route
from interlock.contract.events import MAX_MESSAGE_BYTES
from tests.cli import Interlock, interlock_on

if TYPE_CHECKING:
    from tests.world import World

REQUESTS, STATUS, COMPLETED = "i.executor.requests", "i.executor.status_changed", "i.executor.completed"


@pytest.fixture
def interlock(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Interlock:
    """Run one command on the stage; returns its exit code and what it said."""
    return interlock_on(world.url, monkeypatch, capsys)


async def park(world: World, body: bytes = b"{}", *, queue: str = REQUESTS, reason: str = "bug", age: float = 0) -> int:
    """Put a message aside; returns its number."""
    number: int = await world.tx.fetchval(
        "INSERT INTO poison_message (queue, reason, detail, content_type, body, received_at)"
        " VALUES ($1, $2, 'a test', 'text/plain', $3, now() - $4 * interval '1 second') RETURNING id",
        queue,
        reason,
        body,
        age,
    )
    return number


async def sent(world: World) -> list[tuple[object, ...]]:
    rows = await world.tx.fetch("SELECT role, exchange, routing_key, events, body FROM outbox ORDER BY id")
    return [tuple(row) for row in rows]


async def numbers(interlock: Interlock, *words: object) -> list[int]:
    return [each["id"] for each in json.loads((await interlock("poison", "list", "--json", *words)).out)]


async def test_messages_are_listed_newest_first_by_queue_reason_and_age(world: World, interlock: Interlock) -> None:
    assert (await interlock("poison", "list")).err == "no poison messages\n"
    first = await park(world, age=7200)
    second = await park(world, b"[]", queue=COMPLETED, reason="malformed_batch")
    third = await park(world)
    assert await numbers(interlock) == [third, second, first]
    assert await numbers(interlock, "--queue", "completed") == [second]
    assert await numbers(interlock, "--queue", COMPLETED) == [second]
    assert await numbers(interlock, "--queue", "ompleted") == []
    assert await numbers(interlock, "--reason", "bug") == [third, first]
    assert await numbers(interlock, "--older", "1h") == [first]
    assert await numbers(interlock, "--limit", 1, "--before", third) == [second]
    said = await interlock("poison", "list", "--limit", 2)
    assert (said.code, said.err) == (0, f"more: --before {second}\n")
    words = [line.split() for line in said.out.splitlines()]
    assert words[0] == ["number", "received", "queue", "reason", "bytes", "detail"]
    assert (words[2][0], words[2][2:]) == (str(second), ["ago", COMPLETED, "malformed_batch", "2", "a", "test"])


@pytest.mark.parametrize(
    ("body", "kind", "value", "shown"),
    [
        (b'{"a": [1]}', "json", {"a": [1]}, '{\n  "a": [\n    1\n  ]\n}'),
        (b"no {json}", "text", "no {json}", "no {json}"),
        (b"\xff\x00", "hex", "00000000  ff 00", "00000000  ff 00"),
        (b"a\0b", "hex", "00000000  61 00 62", "00000000  61 00 62"),
    ],
)
async def test_a_body_is_shown_as_what_it_is(
    world: World, interlock: Interlock, body: bytes, kind: str, value: object, shown: str
) -> None:
    number = await park(world, body)
    said = await interlock("poison", "show", number)
    assert said.code == 0
    assert said.out.endswith(f"{shown}\n")
    told = json.loads((await interlock("poison", "show", number, "--json")).out)
    assert (told["message"]["id"], told["message"]["size"], told[kind]) == (number, len(body), value)


async def test_only_the_beginning_of_many_bytes_is_shown(world: World, interlock: Interlock) -> None:
    lines = (await interlock("poison", "show", await park(world, b"\xff" * 1000))).out.splitlines()
    assert lines[-2:] == [f"000001f0  {' '.join(['ff'] * 16)}", "and 488 bytes more"]


async def test_a_message_that_is_not_there_is_told(interlock: Interlock) -> None:
    said = await interlock("poison", "show", 7)
    assert (said.code, said.err) == (1, "interlock: no poison message 7; `interlock poison list` shows them\n")
    assert (await interlock("poison", "replay", 7)).out == "7 stays: there is no such message\n"
    said = await interlock("poison", "drop", 7, "--yes")
    assert (said.code, said.err) == (1, "interlock: 1 message less than asked for: the others are not there\n")


EVENT = '{"type": "execution.requested", "data": {}}'


@pytest.mark.parametrize(
    ("queue", "body", "wanted"),
    [
        (REQUESTS, EVENT, ("executor", "requests", "execution.requested", 1, EVENT)),
        ("i.dead", EVENT, ("executor", "requests", "execution.requested", 1, EVENT)),
        (REQUESTS, f"[{EVENT},{EVENT}]", ("executor", "requests", "execution.requested", 2, f"[{EVENT},{EVENT}]")),
        (REQUESTS, f"[{EVENT}]", ("executor", "requests", "execution.requested", 1, EVENT)),
        (
            REQUESTS,
            '{"type":"execution.cancel_requested"}',
            ("executor", "requests", "execution.cancel_requested", 1, '{"type":"execution.cancel_requested"}'),
        ),
        (REQUESTS, '{"type":"x"}', ("executor", "requests", "execution.requested", 1, '{"type":"x"}')),
        (REQUESTS, "7", ("executor", "requests", "execution.requested", 1, "7")),
        (
            STATUS,
            '{"data":{"to":"running"}}',
            ("executor", "status", "execution.status_changed.running.leaf", 1, '{"data":{"to":"running"}}'),
        ),
        (
            STATUS,
            '{"data":{"to":"failed","parent_id":"x"}}',
            (
                "executor",
                "status",
                "execution.status_changed.failed.child",
                1,
                '{"data":{"to":"failed","parent_id":"x"}}',
            ),
        ),
        (
            COMPLETED,
            '{"data":{"status":"failed"}}',
            ("worker", "completions", "execution.completed.failed", 1, '{"data":{"status":"failed"}}'),
        ),
    ],
)
def test_a_message_goes_where_it_came_from(queue: str, body: str, wanted: tuple[object, ...]) -> None:
    assert tuple(route(queue, body.encode())) == wanted


@pytest.mark.parametrize(
    ("queue", "body", "why"),
    [
        (REQUESTS, b"{", "it is not JSON in UTF-8"),
        (REQUESTS, b'"\xff"', "it is not JSON in UTF-8"),
        (REQUESTS, b'"\0"', "it is not JSON in UTF-8"),
        (REQUESTS, b"[" * 100_000, "it is not JSON in UTF-8"),
        (REQUESTS, b"[]", "a batch has 1 to 500 events, and it has 0"),
        (REQUESTS, b"[" + b"1," * 500 + b"1]", "a batch has 1 to 500 events, and it has 501"),
        (REQUESTS, b" " * MAX_MESSAGE_BYTES + b"1", "and a message may have 4194304"),
        ("i.worker.default", b"{}", "nothing leads into the queue i.worker.default"),
    ],
)
def test_what_would_only_be_put_aside_again_stays(queue: str, body: bytes, why: str) -> None:
    with pytest.raises(Unfit, match=why):
        route(queue, body)


async def test_a_replay_is_a_message_and_its_mark_once(world: World, interlock: Interlock) -> None:
    good, bad = await park(world, EVENT.encode()), await park(world, b"{")
    said = await interlock("poison", "replay", good, bad, 99)
    why = "it is not JSON in UTF-8: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    assert (said.code, said.out.splitlines()) == (
        1,
        [f"{good} is sent again", f"{bad} stays: {why}", "99 stays: there is no such message"],
    )
    assert await sent(world) == [("executor", "requests", "execution.requested", 1, EVENT)]
    assert await numbers(interlock) == [bad]
    assert await numbers(interlock, "--replayed") == [bad, good]
    again = await interlock("poison", "replay", good)
    assert (again.code, again.out.partition(", ")[0]) == (1, f"{good} stays: it was sent again before")
    assert len(await sent(world)) == 1


async def test_messages_are_replayed_by_what_they_have_in_common_after_a_question(
    world: World, interlock: Interlock
) -> None:
    wanted = [await park(world, EVENT.encode()) for _ in range(23)]
    other = await park(world, EVENT.encode(), reason="conflict")
    dry = await interlock("poison", "replay", "--reason", "bug", "--dry-run")
    assert [line.split() for line in dry.out.splitlines()] == [["queue", "reason", "messages"], [REQUESTS, "bug", "23"]]
    asked = await interlock("poison", "replay", "--reason", "bug")
    assert (asked.code, await sent(world)) == (2, [])
    assert "Send 23 messages again? Nobody is there to answer" in asked.err
    said = await interlock("poison", "replay", "--reason", "bug", "--yes", "--json")
    assert [json.loads(line) for line in said.out.splitlines()] == [{"id": n, "problem": None} for n in wanted]
    assert (said.code, len(await sent(world))) == (0, 23)
    assert await numbers(interlock) == [other]
    assert (await interlock("poison", "replay", "--reason", "bug")).err == "no poison messages like that\n"


async def test_messages_are_dropped_by_number_or_by_what_they_have_in_common(
    world: World, interlock: Interlock
) -> None:
    first, second, third = [await park(world, EVENT.encode(), reason=reason) for reason in ("a", "b", "b")]
    await interlock("poison", "replay", third)
    refused = await interlock("poison", "drop", first)
    assert (refused.code, await numbers(interlock, "--replayed")) == (2, [third, second, first])
    assert "Throw 1 message away?" in refused.err
    assert (await interlock("poison", "drop", first, "--yes")).out == "dropped 1 message\n"
    dry = await interlock("poison", "drop", "--reason", "b", "--dry-run", "--json")
    share = {"queue": REQUESTS, "reason": "b", "messages": 1}
    assert json.loads(dry.out) == {"preview": {"messages": 1, "shares": [share], "until": second}}
    said = await interlock("poison", "drop", "--reason", "b", "--yes", "--json")
    assert (json.loads(said.out), await numbers(interlock, "--replayed")) == ({"dropped": 1}, [third])
    said = await interlock("poison", "drop", "--older", "0s", "--replayed", "--yes")
    assert (said.out.splitlines()[-1], await numbers(interlock, "--replayed")) == ("dropped 1 message", [])


async def test_what_is_put_aside_after_the_preview_is_not_part_of_it(world: World) -> None:
    seen = await park(world)
    selection = PoisonSelection(reason="bug")
    async with Client.connect(world.url) as client:
        preview = await client.poison.preview(selection)
        await park(world)
        assert await client.poison.numbers(selection, preview.until) == [seen]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("replay",), "give numbers, or choose by --queue, --reason or --older (0s for all)"),
        (("drop",), "give numbers, or choose by --queue, --reason or --older (0s for all)"),
        (("drop", "--replayed"), "give numbers, or choose by --queue, --reason or --older (0s for all)"),
        (("replay", "1", "--reason", "bug"), "give numbers, or what the messages have in common, not both"),
        (("drop", "1", "--dry-run"), "give numbers, or what the messages have in common, not both"),
        (("list", "--older", "long"), "is not a duration"),
        (("show", "x"), "should be a valid integer"),
    ],
)
async def test_what_makes_no_sense_is_refused(interlock: Interlock, words: tuple[str, ...], message: str) -> None:
    said = await interlock("poison", *words)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert message in said.err
