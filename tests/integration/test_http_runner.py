"""HTTP calls against a real server: how an answer is judged, and where a call may not go."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from typing import TYPE_CHECKING

import orjson
import pytest

from interlock.contract.status import Status
from worker.runners.address import AddressRefused, Guard
from worker.runners.http import BODY_LIMIT, CUT_LIMIT, http_client, run_http
from worker.runners.logsink import LogEntry, LogSink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.outcome import Outcome

LOCAL = Guard(["127.0.0.0/8"])


class Server:
    """Answers by path from a table of raw responses and keeps the raw requests."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.requests: list[bytes] = []
        self.port = 0

    def answer(self, path: str, body: bytes, *headers: str, status: str = "200 OK") -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        self.answers[path] = "\r\n".join(lines).encode() + body

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
        self.requests.append(head + await reader.readexactly(length))
        writer.write(self.answers.get(head.split()[1].decode(), b""))
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as listening:
        made.port = listening.sockets[0].getsockname()[1]
        yield made


async def _call(
    url: str,
    *,
    guard: Guard = LOCAL,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: object | None = None,
    entries: list[LogEntry] | None = None,
) -> Outcome:
    kept: list[LogEntry] = [] if entries is None else entries
    async with http_client(guard) as client:
        sink = LogSink(kept.append)
        return await run_http(client, method=method, url=url, headers=headers or {}, body=body, sink=sink, guard=guard)


def _error(outcome: Outcome) -> tuple[str, str]:
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    return outcome.failure.error_class, outcome.failure.message


def _result(outcome: Outcome) -> dict[str, object]:
    assert outcome.status is Status.COMPLETED
    assert isinstance(outcome.result, dict)
    return outcome.result


async def test_a_json_answer_is_the_result(server: Server) -> None:
    server.answer("/a?token=secret", b'{"n":1}', "Content-Type: application/json", "Set-Cookie: a=b", "ETag: x")
    entries: list[LogEntry] = []
    outcome = await _call(server.url("/a?token=secret"), entries=entries)
    assert _result(outcome) == {
        "status": 200,
        "headers": {"content-type": "application/json", "content-length": "7", "etag": "x"},
        "body": {"n": 1},
        "truncated": False,
    }
    assert [entry.line for entry in entries] == [f"GET {server.url('/a')} → 200"]


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b"plain", "text/plain", "plain"),
        (b"a\0\xff", "text/plain", "a\u2400\ufffd"),
        (b"{not json", "application/json", "{not json"),
        (b"\xe9", "text/plain; charset=latin-1", "é"),
        (b"abc", "text/plain; charset=hex", "abc"),
        (b"", "text/plain", ""),
    ],
)
async def test_any_other_answer_is_text(server: Server, body: bytes, kind: str, text: str) -> None:
    server.answer("/", body, f"Content-Type: {kind}")
    assert _result(await _call(server.url("/")))["body"] == text


async def test_a_json_answer_with_a_nul_character_cannot_be_stored(server: Server) -> None:
    server.answer("/", rb'{"a":"\u0000"}', "Content-Type: application/problem+json")
    outcome = await _call(server.url("/"))
    assert _error(outcome) == ("ResultNotStorable", "result.body.a has a NUL character: remove or encode it")


async def test_a_body_is_sent_as_json_and_a_text_as_it_is(server: Server) -> None:
    server.answer("/", b"")
    await _call(server.url("/"), method="POST", body={"a": "é"}, headers={"X-Given": "1"})
    await _call(server.url("/"), method="PUT", body="raw", headers={"Content-Type": "text/csv"})
    first, second = server.requests
    assert first.startswith(b"POST / HTTP/1.1\r\n")
    assert b"content-type: application/json\r\n" in first.lower()
    assert b"x-given: 1\r\n" in first.lower()
    assert first.endswith('\r\n\r\n{"a":"é"}'.encode())
    assert b"content-type: text/csv\r\n" in second.lower()
    assert second.endswith(b"\r\n\r\nraw")


async def test_another_status_is_a_failure_with_an_excerpt(server: Server) -> None:
    server.answer("/x", b"try later\0", status="503 Service Unavailable")
    outcome = await _call(server.url("/x?key=secret"))
    assert _error(outcome)[0] == "HttpError"  # the table has no such path: the server closes without an answer
    outcome = await _call(server.url("/x"))
    url = server.url("/x")
    assert _error(outcome) == ("HttpStatus", f"GET {url} answered 503 Service Unavailable: try later\u2400")


async def test_a_large_answer_is_cut_and_says_so(server: Server) -> None:
    server.answer("/", b"x" * (BODY_LIMIT + 1), "Content-Type: application/json")
    result = _result(await _call(server.url("/")))
    assert result["truncated"] is True
    assert result["body"] == "x" * CUT_LIMIT


async def test_a_compressed_answer_is_unpacked_within_the_bound(server: Server) -> None:
    server.answer("/small", gzip.compress(b'{"a":1}'), "Content-Type: application/json", "Content-Encoding: gzip")
    server.answer("/bomb", gzip.compress(b"\0" * 100_000_000), "Content-Encoding: gzip")
    server.answer("/cut", gzip.compress(b"x" * 1000)[:20], "Content-Encoding: gzip")
    server.answer("/odd", b"x", "Content-Encoding: br")
    assert _result(await _call(server.url("/small")))["body"] == {"a": 1}
    tracemalloc.start()
    assert _result(await _call(server.url("/bomb")))["truncated"] is True
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000  # orjson alone takes 36 MB for a moment to write the text of this answer
    assert "the compressed answer ended too early" in _error(await _call(server.url("/cut")))[1]
    assert "the encoding 'br', which was not asked for" in _error(await _call(server.url("/odd")))[1]


async def test_redirects_are_followed_up_to_five(server: Server) -> None:
    for number in range(6):
        server.answer(f"/{number}", b"", f"Location: /{number + 1}", status="302 Found")
    server.answer("/6", b"end")
    assert _result(await _call(server.url("/1")))["body"] == "end"
    outcome = await _call(server.url("/0"))
    assert _error(outcome) == ("HttpError", f"GET {server.url('/0')}: more than 5 redirects")


async def test_what_the_action_says_in_headers_does_not_follow_to_another_origin(server: Server) -> None:
    server.answer("/", b"", f"Location: {server.url('/end', host='127.0.0.2')}", status="302 Found")
    async with await asyncio.start_server(server.serve, "127.0.0.2", server.port):
        server.answer("/end", b"end")
        outcome = await _call(server.url("/"), headers={"X-Api-Key": "secret", "Authorization": "secret"})
    assert _result(outcome)["body"] == "end"
    assert b"secret" in server.requests[0]
    assert b"secret" not in server.requests[1]
    assert b"host: 127.0.0.2:" in server.requests[1].lower()


async def test_cookies_are_not_kept_between_calls(server: Server) -> None:
    server.answer("/", b"", "Set-Cookie: a=b")
    async with http_client(LOCAL) as client:
        for _ in range(2):
            sink = LogSink(lambda _: None)
            await run_http(client, method="GET", url=server.url("/"), headers={}, body=None, sink=sink, guard=LOCAL)
    assert b"cookie" not in server.requests[1].lower()


async def test_a_proxy_of_the_environment_is_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.answer("/", b"direct")
    assert _result(await _call(server.url("/")))["body"] == "direct"


async def test_a_refused_connection_is_a_failure(server: Server) -> None:
    url = "http://127.0.0.1:1/?key=secret"
    error_class, message = _error(await _call(url))
    assert error_class == "HttpError"
    assert message.startswith("GET http://127.0.0.1:1/: ConnectError: ")
    assert server.requests == []


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0"],  # noqa: S104
)
async def test_the_machine_itself_cannot_be_reached_by_any_spelling(server: Server, host: str) -> None:
    server.answer("/", b"private")
    error_class, message = _error(await _call(server.url("/", host=host), guard=Guard()))
    assert error_class == "AddressRefused"
    assert "INTERLOCK_HTTP_ALLOW" in message
    assert server.requests == []


async def test_a_redirect_into_a_private_network_is_refused(server: Server) -> None:
    server.answer("/", b"", "Location: http://169.254.169.254/latest/meta-data", status="302 Found")
    error_class, message = _error(await _call(server.url("/")))
    assert error_class == "AddressRefused"
    assert "'169.254.169.254' is 169.254.169.254, a link-local address: refused" in message


async def test_a_redirect_to_another_scheme_is_refused(server: Server) -> None:
    server.answer("/", b"", "Location: file:///etc/passwd", status="302 Found")
    assert _error(await _call(server.url("/")))[0] in {"AddressRefused", "HttpError"}


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "/relative", "http://"])
async def test_a_url_that_is_not_http_is_refused(url: str) -> None:
    error_class, message = _error(await _call(url))
    assert error_class == "AddressRefused"
    assert "http://… and https://… URLs only" in message


@pytest.mark.parametrize(
    ("url", "body"), [("http://a:b/", None), ("http://a/\0", None), ("http://0177.0.0.1/", None), ("http://a/", {1: 2})]
)
async def test_a_request_that_cannot_be_written_is_a_failure(url: str, body: object) -> None:
    assert _error(await _call(url, body=body))[0] == "HttpRequestInvalid"


async def test_an_allowed_host_may_be_private_whatever_its_case(server: Server) -> None:
    server.answer("/", b"welcome")
    outcome = await _call(server.url("/", host="LOCALHOST"), guard=Guard(["localhost."]))
    assert _result(outcome)["body"] == "welcome"
    assert orjson.loads(outcome.result_json or "")["body"] == "welcome"


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("10.1.2.3", "a private or reserved address"),
        ("100.64.0.1", "a private or reserved address"),
        ("169.254.1.1", "a link-local address"),
        ("224.0.0.1", "a multicast address"),
        ("240.0.0.1", "a private or reserved address"),
        ("::", "an unspecified address"),
        ("::ffff:8.8.8.8", "an IPv4 address in IPv6 form"),
        ("::127.0.0.1", "an IPv4 address in IPv6 form"),
        ("2002:7f00:1::", "an IPv4 address in 6to4 form"),
        ("64:ff9b::7f00:1", "an IPv4 address in NAT64 form"),
        ("64:ff9b:1::1", "an IPv4 address in NAT64 form"),
        ("2001:0:1::", "an IPv4 address in Teredo form"),
        ("fe80::1%2", "a link-local address"),
        ("fec0::1", "a private or reserved address"),
        ("fd00::1", "a private or reserved address"),
    ],
)
def test_each_private_kind_of_address_is_refused(address: str, kind: str) -> None:
    with pytest.raises(AddressRefused, match=kind):
        Guard().permitted("host.example", [address])


def test_of_several_addresses_only_public_and_allowed_ones_are_dialled() -> None:
    guard = Guard(["10.1.0.0/16", "64:ff9b::/96"])
    addresses = ["10.0.0.1", "8.8.8.8", "10.1.2.3", "2606:4700::1111", "64:ff9b::1", "127.0.0.1"]
    assert guard.permitted("host.example", addresses) == ["8.8.8.8", "10.1.2.3", "2606:4700::1111", "64:ff9b::1"]
