"""The wire: what is read, what is parked and why, and that whatever arrives is one or the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.contract.events import (
    BATCH,
    MAX_EVENT_BYTES,
    MAX_EVENTS,
    MAX_MESSAGE_BYTES,
    SINGLE,
    TYPES,
    CanaryData,
    Completed,
    Requested,
    Scheduled,
    StatusChanged,
    decode,
    encode,
    requested,
)
from interlock.contract.json_text import MAX_DEPTH

GOLDEN = Path(__file__).parent.parent / "golden"
ID = "01a200fa-52c2-7207-8579-8c9ba1907471"


def scheduled(**fields: object) -> dict[str, Any]:
    """Return a good event, with some fields replaced."""
    event = {
        "specversion": "1.0",
        "type": "execution.scheduled",
        "id": f"{ID}/1/2",
        "source": "/executor/x",
        "data": {"id": ID, "attempt": 1},
    }
    return event | fields


def wanted(**data: object) -> dict[str, Any]:
    """Return a good `execution.requested` with some more data."""
    return scheduled(type="execution.requested", data={"id": ID, "action": "job"} | data)


def text(document: object) -> bytes:
    return json.dumps(document).encode()


def reasons(body: bytes, content_type: str | None = SINGLE) -> list[str]:
    """Decode what must be unusable as a whole and return the reasons."""
    found, unusable = decode(body, content_type)
    assert found == []
    return [bad.reason for bad in unusable]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_the_golden_corpus_is_read_and_written_unchanged(path: Path) -> None:
    body = path.read_bytes()
    document = json.loads(body)
    content_type = BATCH if isinstance(document, list) else SINGLE
    events, unusable = decode(body, content_type)
    assert unusable == []
    again, kind = encode(events)
    assert (json.loads(again), kind) == (document, content_type)
    assert decode(again, kind) == (events, [])


def test_the_golden_corpus_has_a_single_and_a_batch_of_every_type() -> None:
    documents = [json.loads(path.read_bytes()) for path in GOLDEN.glob("*.json")]
    assert {d["type"] for d in documents if isinstance(d, dict)} == TYPES
    assert {event["type"] for d in documents if isinstance(d, list) for event in d} == TYPES


def test_a_single_event_and_a_batch_of_one_read_the_same() -> None:
    single, batch = decode(text(scheduled()), SINGLE), decode(text([scheduled()]), BATCH)
    assert single == batch
    (event,), nothing = single
    assert isinstance(event, Scheduled)
    assert (str(event.data.id), event.data.attempt, nothing) == (ID, 1, [])


@pytest.mark.parametrize("content_type", [f"{SINGLE}; charset=utf-8", SINGLE.upper(), f" {SINGLE} "])
def test_parameters_and_case_of_the_content_type_do_not_matter(content_type: str) -> None:
    assert len(decode(text(scheduled()), content_type)[0]) == 1


@pytest.mark.parametrize("content_type", [None, "", "application/json", "text/plain", "application/cloudevents"])
def test_another_content_type_is_refused_and_named(content_type: str | None) -> None:
    body = text(scheduled())
    events, (bad,) = decode(body, content_type)
    assert (events, bad.body, bad.reason) == ([], body, "content_type")
    assert repr(content_type) in bad.detail


def test_unknown_fields_of_hints_are_ignored() -> None:
    event = scheduled(extra=1, time="2026-01-01T00:00:00Z", data={"id": ID, "attempt": 1, "since": "later"})
    (found,), unusable = decode(text(event), SINGLE)
    assert unusable == []
    assert isinstance(found, Scheduled)
    assert not hasattr(found.data, "since")


def test_unknown_fields_of_a_request_are_kept_for_acceptance_to_refuse() -> None:
    (found,), _ = decode(text(wanted(parms={"x": 1})), SINGLE)
    assert isinstance(found, Requested)
    assert found.data["parms"] == {"x": 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b"\xff\xfe{}", "malformed_json"),
        (b'{"specversion":"1.0\xff"}', "malformed_json"),
        (b"\xef\xbb\xbf{}", "malformed_json"),
        (b'{"a":NaN}', "malformed_json"),
        (b'{"a":-Infinity}', "malformed_json"),
        (b'{"a":' + b"9" * 5000 + b"}", "malformed_json"),
        (b"[" * 100_000, "malformed_json"),
        (b"[" * 100_000 + b"]" * 100_000, "malformed_json"),
        (b'{"a":1,"a":2}', "duplicate_names"),
        (b'{"data":{"x":[{"b":1,"b":1}]}}', "duplicate_names"),
        (b"[]", "malformed_event"),
        (b"7", "malformed_event"),
        (b"null", "malformed_event"),
        (b"{}", "unknown_version"),
        (text(scheduled(specversion="0.3")), "unknown_version"),
        (text(scheduled(specversion=["1.0"])), "unknown_version"),
        (text(scheduled(type="execution.exploded")), "unknown_type"),
        (text(scheduled(type=None)), "unknown_type"),
        (text(scheduled(type=["execution.scheduled"])), "unknown_type"),
        (text(scheduled(type={})), "unknown_type"),
        (text(scheduled(id="")), "malformed_event"),
        (text(scheduled(source="")), "malformed_event"),
        (text(scheduled(id="i" * 257)), "malformed_event"),
        (text(scheduled(id="\ud800")), "malformed_event"),
        (text(scheduled(data=None)), "malformed_event"),
        (text(scheduled(data={"id": "x", "attempt": 1})), "malformed_event"),
        (text(scheduled(data={"id": ID})), "malformed_event"),
        (text(scheduled(type="execution.requested", data=[])), "malformed_event"),
        (text(scheduled(type="execution.cancel_requested", data={"id": ID, "reason": "r" * 1001})), "malformed_event"),
        (text(scheduled(type="execution.cancel_requested", data={"id": ID, "reason": "a\0b"})), "malformed_event"),
    ],
)
def test_what_breaks_the_contract_is_named(body: bytes, reason: str) -> None:
    assert reasons(body) == [reason]


def test_the_field_that_is_wrong_is_named() -> None:
    _, (bad,) = decode(text(scheduled(data={"id": ID, "attempt": "many"})), SINGLE)
    assert bad.detail.startswith("execution.scheduled: data.attempt: ")


@pytest.mark.parametrize("body", [b"[]", b"{}", b"7", text([scheduled()] * (MAX_EVENTS + 1))])
def test_a_batch_is_a_list_of_1_to_500_events(body: bytes) -> None:
    assert reasons(body, BATCH) == ["malformed_batch"]


def test_a_batch_of_500_is_read() -> None:
    assert len(decode(text([scheduled()] * MAX_EVENTS), BATCH)[0]) == MAX_EVENTS


def test_one_bad_event_of_many_harms_itself_only() -> None:
    good = [scheduled(id=str(n)) for n in range(5)]
    bad = scheduled(data={"id": "none"}, id="ä")
    events, unusable = decode(text([*good[:3], bad, *good[3:]]), BATCH)
    assert [event.id for event in events] == ["0", "1", "2", "3", "4"]
    assert [(json.loads(one.body), one.reason) for one in unusable] == [(bad, "malformed_event")]


def test_an_event_of_one_mebibyte_is_read_and_one_byte_more_is_not() -> None:
    def sized(size: int) -> bytes:
        body = json.dumps(wanted(params={"fill": ""}), separators=(",", ":")).encode()
        return body.replace(b'"fill":""', b'"fill":"' + b"x" * (size - len(body)) + b'"')

    assert [len(sized(size)) for size in (MAX_EVENT_BYTES, MAX_EVENT_BYTES + 1)] == [1024 * 1024, 1024 * 1024 + 1]
    assert len(decode(sized(MAX_EVENT_BYTES), SINGLE)[0]) == 1
    assert reasons(sized(MAX_EVENT_BYTES + 1)) == ["oversized"]
    small = text(scheduled())
    events, unusable = decode(b"[" + sized(MAX_EVENT_BYTES + 1) + b"," + small + b"]", BATCH)
    assert ([event.type for event in events], [bad.reason for bad in unusable]) == (
        ["execution.scheduled"],
        ["oversized"],
    )


def test_a_message_of_more_than_four_mebibytes_is_refused_unread() -> None:
    assert reasons(b"[" + b" " * (MAX_MESSAGE_BYTES - 2) + b"]", BATCH) == ["malformed_batch"]
    assert reasons(b"[" + b" " * (MAX_MESSAGE_BYTES - 1) + b"]", BATCH) == ["oversized"]


@pytest.mark.parametrize("depth", [1, 64, 65, MAX_DEPTH - 2, MAX_DEPTH - 1, MAX_DEPTH, 300, *range(900, 1050, 7)])
def test_deep_nesting_is_read_or_refused_and_never_breaks_the_reader(depth: int) -> None:
    # The lists stand below the event and its data.
    body = text(wanted()).replace(b'"job"', b'"job","x":' + b"[" * depth + b"]" * depth)
    events, unusable = decode(body, SINGLE)
    assert len(events) == (depth <= MAX_DEPTH - 2)
    assert [bad.reason for bad in unusable] in ([], ["too_deep"], ["malformed_json"])
    assert len(events) + len(unusable) == 1
    if events:
        assert json.loads(encode(events)[0]) == json.loads(body)
    else:
        assert unusable[0].body == body


def test_one_event_that_is_too_deep_harms_itself_only() -> None:
    deep = text(wanted()).replace(b'"job"', b'"job","x":' + b"[" * 300 + b"]" * 300)
    events, unusable = decode(b"[" + text(scheduled()) + b"," + deep + b"]", BATCH)
    assert (len(events), [bad.reason for bad in unusable]) == (1, ["too_deep"])


def test_what_is_written_leaves_out_what_was_not_said() -> None:
    (event,) = requested("/client/x", [{"id": ID, "action": "job", "params": {"none": None}}])
    body, content_type = encode([event])
    assert content_type == SINGLE
    assert json.loads(body) == {
        "specversion": "1.0",
        "type": "execution.requested",
        "id": ID,
        "source": "/client/x",
        "subject": ID,
        "data": {"id": ID, "action": "job", "params": {"none": None}},
    }


def test_events_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        CanaryData(number=1).number = 2  # type: ignore[misc]


def test_what_a_move_says_is_read_into_statuses() -> None:
    (moved,), _ = decode((GOLDEN / "status_changed.json").read_bytes(), SINGLE)
    assert isinstance(moved, StatusChanged)
    assert (moved.data.source, moved.data.target, moved.data.parent_id) == ("scheduled", "running", None)
    (ended,), _ = decode((GOLDEN / "completed.json").read_bytes(), SINGLE)
    assert isinstance(ended, Completed)
    assert ended.data.status == "completed"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
almost_events = st.builds(
    lambda base, changes, gone: {name: value for name, value in (base | changes).items() if name not in gone},
    st.builds(lambda type_: scheduled(type=type_), st.sampled_from(sorted(TYPES)) | st.text(max_size=5)),
    st.dictionaries(
        st.sampled_from(["specversion", "type", "id", "source", "subject", "data", "x"]), json_values, max_size=3
    ),
    st.sets(st.sampled_from(["specversion", "type", "id", "source", "data"]), max_size=1),
)


@given(st.lists(almost_events | json_values, min_size=1, max_size=6))
def test_every_element_of_any_batch_is_either_read_or_parked(documents: list[Any]) -> None:
    body = json.dumps(documents).encode()
    events, unusable = decode(body, BATCH)
    # A constant such as NaN makes the whole body something else than JSON: then it is parked whole.
    assert len(events) + len(unusable) == len(documents) or [bad.body for bad in unusable] == [body]
    assert all(bad.reason and bad.detail for bad in unusable)


@given(st.binary(max_size=200), st.sampled_from([SINGLE, BATCH, None, "text/plain"]))
def test_no_bytes_break_the_reader_and_none_are_lost(body: bytes, content_type: str | None) -> None:
    events, unusable = decode(body, content_type)
    assert events == []
    assert [bad.body for bad in unusable] == [body] or content_type == BATCH


@given(st.binary(max_size=6), st.integers(0, 400), st.integers(0, 20))
def test_a_damaged_event_never_breaks_the_reader(junk: bytes, at: int, cut: int) -> None:
    body = text(wanted(params={"a": [1, {"b": "ä"}]}))
    events, unusable = decode(body[:at] + junk + body[at + cut :], SINGLE)
    assert len(events) + len(unusable) == 1
