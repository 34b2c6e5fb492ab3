"""A port that was found free stays so until the server it is meant for has it."""

from __future__ import annotations

import socket

import pytest

from interlock.local import children
from interlock.local.children import HELD, free_port


def bound(port: int, *, reuse: bool) -> socket.socket:
    """Return a socket on this port, as a server binds it with `reuse`, as one who looks for a port does without."""
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        made.bind(("127.0.0.1", port))
    except OSError:
        made.close()
        raise
    return made


def test_a_port_is_given_to_nobody_else_before_its_server_listens() -> None:
    port = free_port()
    with pytest.raises(OSError, match="already in use"):
        bound(port, reuse=False)
    with bound(port, reuse=True) as server:
        server.listen()
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()


def test_a_port_that_is_held_or_used_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    first = free_port()
    monkeypatch.setattr(children, "PORTS", (first, free_port(), *range(20_000, 20_098)))
    assert len({first, *(free_port() for _ in range(20))}) == 21


def test_what_is_held_is_bounded_and_the_oldest_is_let_go() -> None:
    ports = [free_port() for _ in range(HELD + 1)]
    assert len(set(ports)) == len(ports)
    bound(ports[0], reuse=False).close()
    with pytest.raises(OSError, match="already in use"):
        bound(ports[1], reuse=False)
