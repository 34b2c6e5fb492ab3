"""The client library: submit, cancel, read and wait, over PostgreSQL. `async with Client.connect(url) as client:`."""

from __future__ import annotations

from interlock.client.client import Client

__all__ = ["Client"]
