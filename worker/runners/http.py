"""Runs one HTTP call: sends it, follows redirects by hand, reads a bounded answer and judges it by its status.

Nothing is kept between two calls: no cookies, no proxies from the environment. Whom it may reach: `address.py`.
"""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final

import httpcore
import httpx
import orjson

from interlock import __version__
from worker.outcome import Outcome, Unstorable, encode_result, failed, settle, storable
from worker.runners.address import AddressRefused, Guard, GuardedBackend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.runners.logsink import LogSink

REDIRECTS: Final = 5
BODY_LIMIT: Final = 1024 * 1024
"""Bytes read of an answer; more is cut off and the result says so."""
CUT_LIMIT: Final = 128 * 1024
"""Characters kept of a body that does not fit into a result: at most six bytes of JSON each."""
EXCERPT: Final = 500
BUSY: Final = (429, 503)
"""Answers whose Retry-After is heeded."""
KEPT_HEADERS: Final = ("content-type", "content-length", "date", "etag", "last-modified", "location", "retry-after")
TIMEOUT: Final = httpx.Timeout(connect=10, read=300, write=60, pool=None)
"""Seconds without progress. How long a call may take in all is the action's `timeout.run`."""
_SAFE_ELSEWHERE: Final = frozenset({"accept", "content-type", "content-length", "user-agent", "accept-encoding"})


class _Transport(httpx.AsyncHTTPTransport):
    """The usual transport, whose pool opens connections through the guard only."""

    def __init__(self, guard: Guard, connections: int) -> None:
        context = httpx.create_ssl_context(trust_env=False)
        context.load_default_certs()  # the machine's own authorities beside the public ones
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=connections,
            # A kept connection may be closed by its server just as it is used again, and nobody would know whether
            # the call was made; a new one is also judged anew.
            max_keepalive_connections=0,
            network_backend=GuardedBackend(guard),
        )


def http_client(guard: Guard, *, connections: int = 100) -> httpx.AsyncClient:
    """Make the one client of a worker; close it at the end. It reaches only what the guard permits."""
    return httpx.AsyncClient(
        transport=_Transport(guard, connections),
        timeout=TIMEOUT,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": f"interlock/{__version__}", "Accept-Encoding": "identity"},
    )


async def run_http(
    client: httpx.AsyncClient,
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: object | None,
    sink: LogSink,
    guard: Guard,
) -> Outcome:
    """Make the call and return its outcome. A text body is sent as it is, anything else as JSON.

    2xx is `completed` with `{"status", "headers", "body", "truncated"}`: the body is the JSON value when the answer
    says it is JSON, else text. Failures: `HttpStatus`, `HttpError` (nothing usable came back), `AddressRefused`,
    `HttpRequestInvalid`. At most five redirects; headers the action gave do not follow to another origin.
    """
    try:
        request = _request(client, method, url, headers, body)
    except (httpx.InvalidURL, TypeError, ValueError) as error:
        return failed("HttpRequestInvalid", f"{method} {url}: {error}")
    try:
        for _ in range(REDIRECTS + 1):
            guard.check_url(request.url)
            response = await client.send(request, stream=True)
            try:
                sink.write("log", f"{request.method} {_shown(request.url)} → {response.status_code}")
                if response.next_request is None:
                    return _judge(request, response, *await _read(response))
                request = _redirected(request, response.next_request)
            finally:
                await response.aclose()
    except AddressRefused as refusal:
        return failed("AddressRefused", f"{request.method} {_shown(request.url)}: {refusal}")
    except (httpx.HTTPError, httpx.InvalidURL, zlib.error) as error:
        text = f"{request.method} {_shown(request.url)}: {type(error).__name__}: {error}"
        return failed("HttpError", text.removesuffix(": "), location=_shown(request.url))
    return failed("HttpError", f"{method} {_shown(httpx.URL(url))}: more than {REDIRECTS} redirects")


def _request(
    client: httpx.AsyncClient, method: str, url: str, headers: Mapping[str, str], body: object | None
) -> httpx.Request:
    if body is None:
        return client.build_request(method, url, headers=headers)
    if isinstance(body, str):
        return client.build_request(method, url, headers=headers, content=body.encode())
    typed = httpx.Headers({"Content-Type": "application/json"})
    typed.update(headers)
    return client.build_request(method, url, headers=typed, content=orjson.dumps(body))


def _redirected(request: httpx.Request, following: httpx.Request) -> httpx.Request:
    """Drop what the action said in headers when another origin is asked: any of them may be a secret."""
    if _origin(request.url) != _origin(following.url):
        for name in set(following.headers) - _SAFE_ELSEWHERE - {"host", "transfer-encoding"}:
            del following.headers[name]
    return following


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


async def _read(response: httpx.Response) -> tuple[bytes, bool]:
    """Return at most 1 MiB of the body, decompressed within that bound, and whether something was cut off."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    unpack = zlib.decompressobj(wbits=47) if encoding in {"gzip", "x-gzip", "deflate"} else None
    if unpack is None and encoding != "identity":
        raise httpx.DecodingError(f"the server answered in the encoding {encoding!r}, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        room = BODY_LIMIT + 1 - len(body)
        body += chunk[:room] if unpack is None else unpack.decompress(chunk, room)
        if len(body) > BODY_LIMIT:
            break
    if unpack is not None and body and not unpack.eof and len(body) <= BODY_LIMIT:
        raise httpx.DecodingError("the compressed answer ended too early")
    return bytes(body[:BODY_LIMIT]), len(body) > BODY_LIMIT


def _judge(request: httpx.Request, response: httpx.Response, data: bytes, truncated: bool) -> Outcome:  # noqa: FBT001
    text = storable(_decoded(data, response.charset_encoding or "utf-8"))
    if not response.is_success:
        excerpt = f": {text[:EXCERPT].strip()}" if text.strip() else ""
        head = f"{request.method} {_shown(request.url)} answered {response.status_code} {response.reason_phrase}"
        code = response.status_code
        return failed(
            "HttpStatus",
            head.strip() + excerpt,
            location=_shown(request.url),
            kinds=(f"HttpStatus/{code}", f"HttpStatus/{code // 100}xx"),
            retry_after=_asked(response, datetime.now(UTC)) if code in BUSY else None,
        )
    kept = {name: storable(response.headers[name]) for name in KEPT_HEADERS if name in response.headers}
    result = {"status": response.status_code, "headers": kept, "body": text, "truncated": truncated}
    if not truncated and _is_json(response):
        try:
            result["body"] = orjson.loads(data)
        except orjson.JSONDecodeError:
            result["body"] = text
    try:
        encode_result(result)
    except Unstorable as refusal:
        if refusal.error_class == "ResultTooLarge":
            result |= {"body": text[:CUT_LIMIT], "truncated": True}
    return settle(result)


def _asked(response: httpx.Response, now: datetime) -> float | None:
    """Return in how many seconds the server wants to be asked again: it says seconds, or a date."""
    said = response.headers.get("retry-after", "").strip()
    if re.fullmatch("[0-9]{1,9}", said, re.ASCII):
        return float(said)
    try:
        then = parsedate_to_datetime(said)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - now).total_seconds())


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding, errors="replace")
    except (LookupError, UnicodeError):  # the server named something that is no encoding of text
        return data.decode(errors="replace")


def _is_json(response: httpx.Response) -> bool:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return bool(kind == "application/json" or kind.endswith("+json"))


def _shown(url: httpx.URL) -> str:
    """Return the URL without what may be secret: user, password, query."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))
