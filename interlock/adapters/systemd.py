"""What systemd is told: ready, stopping, a status line, the watchdog, more time. Without systemd it says nothing."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from interlock.adapters.logs import get_logger
from interlock.settings import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)


class Notify:
    """The notification protocol (sd_notify): one datagram of KEY=VALUE lines to the socket that systemd named."""

    def __init__(self, path: str | None = None, watchdog: float | None = None) -> None:
        """Use `path` and a watchdog period of `watchdog` seconds, or what systemd put into the environment."""
        told = surroundings()
        self._address = path or told.notify_socket
        self.watchdog_period = watchdog or told.watchdog

    def __call__(self, *lines: str) -> None:
        """Send the lines at once. A systemd that does not listen is a warning: the work matters more."""
        if self._address is None:
            return
        # A leading @ names an abstract socket, whose real address begins with a zero byte.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1.0)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("systemd was not told", lines=lines, reason=str(error))

    def ready(self, status: str = "ready") -> None:
        """Say that start-up is complete: `systemctl start` returns."""
        self("READY=1", f"STATUS={status}")

    def stopping(self, status: str = "draining") -> None:
        """Say that the drain begins."""
        self("STOPPING=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """Set the one line that `systemctl status` shows, such as `running 12, waiting 4`."""
        self(f"STATUS={text}")

    def extend(self, seconds: float) -> None:
        """Ask that no start or stop timeout strikes within the next `seconds`."""
        self(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")


async def watchdog(notify: Notify, healthy: Callable[[], bool]) -> None:
    """Feed systemd's watchdog twice a period while `healthy()` holds, until cancelled; return if none is set.

    An unhealthy process goes unfed and says so once; systemd restarts it after the period unless it recovers.
    """
    if notify.watchdog_period is None:
        return
    fed = True
    while True:
        was_fed, fed = fed, healthy()
        if fed:
            notify("WATCHDOG=1")
        elif was_fed:
            log.warning("not healthy: systemd's watchdog is not fed", period=notify.watchdog_period)
        await asyncio.sleep(notify.watchdog_period / 2)
