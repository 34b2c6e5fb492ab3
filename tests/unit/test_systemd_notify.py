"""What systemd hears, through a real datagram socket."""

from __future__ import annotations

import asyncio
import socket
import uuid
from typing import TYPE_CHECKING

import pytest

from interlock.adapters.systemd import Notify, watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["a path", "an abstract name"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """Listen like systemd does; the second value is what NOTIFY_SOCKET would say."""
    name = str(tmp_path / "notify") if request.param == "a path" else f"@interlock-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        listener.settimeout(5)
        yield listener, name


def test_each_announcement_is_one_datagram_in_systemds_words(systemd: tuple[socket.socket, str]) -> None:
    listener, name = systemd
    notify = Notify(name)
    notify.ready()
    notify.status("running 12, waiting 4")
    notify.extend(7.5)
    notify.stopping()
    assert [listener.recv(4096).decode() for _ in range(4)] == [
        "READY=1\nSTATUS=ready",
        "STATUS=running 12, waiting 4",
        "EXTEND_TIMEOUT_USEC=7500000",
        "STOPPING=1\nSTATUS=draining",
    ]


def test_the_environment_names_the_socket(systemd: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch) -> None:
    listener, name = systemd
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    notify = Notify()
    notify("READY=1")
    assert listener.recv(4096) == b"READY=1"
    assert notify.watchdog_period == 2.0


def test_without_systemd_nothing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notify().ready()
    assert capsys.readouterr() == ("", "")


def test_a_systemd_that_does_not_listen_is_a_warning_not_an_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Notify(str(tmp_path / "nobody")).ready()
    shown = capsys.readouterr().out
    assert "systemd was not told" in shown
    assert "No such file or directory" in shown


async def test_the_watchdog_is_fed_while_healthy_and_starves_otherwise(systemd: tuple[socket.socket, str]) -> None:
    listener, name = systemd
    asked = asyncio.Event()
    answers = iter([True, False, False, True])

    def healthy() -> bool:
        answer = next(answers, None)
        if answer is None:
            asked.set()
        return answer is True

    async with asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(watchdog(Notify(name, watchdog=0.02), healthy))
        await asyncio.wait_for(asked.wait(), 5)
        feeding.cancel()
    assert [listener.recv(4096) for _ in range(2)] == [b"WATCHDOG=1"] * 2
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.recv(4096)


async def test_without_a_watchdog_there_is_nothing_to_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    await asyncio.wait_for(watchdog(Notify(), lambda: True), 5)
