"""Where `http` actions may connect: names are resolved once, each address is judged, and only a judged one is dialled.

It sends nothing itself. The decision is `Guard`'s; the backend below cannot be passed by redirects or by rebinding,
because it is the only thing that opens connections.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Final, TypeAlias

import httpcore

from interlock.contract.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import httpx

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

ATTEMPTS: Final = 4
"""Addresses of one name that are tried, one after the other."""
_EMBEDDING: Final = {
    "::ffff:0:0/96": "an IPv4 address in IPv6 form",
    "::/96": "an IPv4 address in IPv6 form",
    "2002::/16": "an IPv4 address in 6to4 form",
    "64:ff9b::/96": "an IPv4 address in NAT64 form",
    "64:ff9b:1::/48": "an IPv4 address in NAT64 form",
    "2001::/32": "an IPv4 address in Teredo form",
}
_EMBEDDED: Final = {ipaddress.IPv6Network(network): kind for network, kind in _EMBEDDING.items()}


class AddressRefused(Refused):
    """A URL or address that an `http` action must not reach."""

    code = "address_refused"


class Guard:
    """Judges URLs and addresses. `allow` lists host names (exact) and networks that may be reached though private."""

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._hosts: set[str] = set()
        self._networks: list[Network] = []
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry))
            except ValueError:
                self._hosts.add(_canonical(entry))

    def check_url(self, url: httpx.URL) -> None:
        """Raise AddressRefused unless the URL is http or https and names a host."""
        if url.scheme not in {"http", "https"} or not url.host:
            raise AddressRefused(
                f"{url.scheme or 'no scheme'!r}: an http action takes http://… and https://… URLs only"
            )

    def permitted(self, host: str, addresses: Iterable[str]) -> list[str]:
        """Return those of a host's addresses that may be dialled. Raises AddressRefused when none is left."""
        if _canonical(host) in self._hosts:
            return list(addresses)
        permitted, refused = [], "no address"
        for text in addresses:
            address = ipaddress.ip_address(text)
            kind = self._objection(address)
            if kind is None:
                permitted.append(text)
            else:
                refused = f"{text}, {kind}"
        if not permitted:
            raise AddressRefused(
                f"{host!r} is {refused}: refused. If actions may reach it, add the host or its network "
                "to INTERLOCK_HTTP_ALLOW of the worker"
            )
        return permitted

    def _objection(self, address: Address) -> str | None:
        if any(address.version == network.version and address in network for network in self._networks):
            return None
        return _kind(address)


def _canonical(host: str) -> str:
    return host.lower().rstrip(".")


def _kind(address: Address) -> str | None:
    """Say what makes an address private, in words; None for an address of the public internet."""
    for kind in ("unspecified", "loopback", "link_local", "multicast"):
        if getattr(address, f"is_{kind}"):
            return f"{'an' if kind == 'unspecified' else 'a'} {kind.replace('_', '-')} address"
    if isinstance(address, ipaddress.IPv6Address):
        for network, words in _EMBEDDED.items():
            if address in network:
                return words
    if address.is_global and not address.is_reserved and not getattr(address, "is_site_local", False):
        return None
    return "a private or reserved address"


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens the connections of a pool, to addresses that the guard has judged. Host header and SNI stay the name's."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._dialler = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, judge, dial in turn. Raises AddressRefused, ConnectError or ConnectTimeout."""
        last: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in self._guard.permitted(host, await _resolve(host, port, timeout))[:ATTEMPTS]:
            try:
                return await self._dialler.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last or httpcore.ConnectError(f"{host!r} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no URL means a socket file."""
        del timeout, socket_options
        raise AddressRefused(f"{path!r} is a socket file, which an http action cannot reach")

    async def sleep(self, seconds: float) -> None:
        """Wait, on behalf of the pool."""
        await asyncio.sleep(seconds)


async def _resolve(host: str, port: int, timeout: float | None) -> list[str]:  # noqa: ASYNC109 - httpcore's unit
    """Return the addresses of a name, in the order to be tried; spellings such as 0x7f.1 come out as what they mean."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise httpcore.ConnectTimeout(f"the name {host!r} was not resolved in time") from error
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"the name {host!r} cannot be resolved: {error}") from error
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))
