"""Settings of the executor: what all processes share, and the periods of its loops."""

from __future__ import annotations

from interlock.settings import Address, Seconds, Shared


class Settings(Shared):
    """One executor. Periods are in seconds: how often each loop looks, whatever messages arrive meanwhile."""

    http: Address | None = "127.0.0.1:8480"
    reconcile: Seconds = 4.0
    reaper: Seconds = 3.0
    timers: Seconds = 0.25
    sweep: Seconds = 0.5
