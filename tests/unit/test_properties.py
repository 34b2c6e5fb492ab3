"""What a broken sender puts into a message's properties must not end the connection of who reads it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pamqp import decode

from interlock.adapters.properties import read_any_properties


@pytest.fixture(autouse=True)
def lenient() -> None:
    """Read as the daemons do."""
    read_any_properties()


def test_a_text_that_is_not_utf_8_is_read_with_its_bytes_replaced() -> None:
    assert decode.by_type(b"\x03a\xff\xferest", "shortstr") == (4, "a\ufffd\ufffd")


def test_a_proper_text_is_read_as_it_is() -> None:
    assert decode.by_type("\x04größe".encode()[:5] + b"x", "shortstr")[0] == 5
    assert decode.by_type(b"\x05helloX", "shortstr") == (6, "hello")


def test_a_time_beyond_the_calendar_is_read_as_the_epoch() -> None:
    assert decode.by_type(b"\xff" * 8, "timestamp") == (8, datetime(1970, 1, 1, tzinfo=UTC))


def test_a_table_with_a_broken_name_is_read_as_empty_and_passed_over_whole() -> None:
    broken = b"\x02\xff\xfet\x01"
    assert decode.by_type(len(broken).to_bytes(4, "big") + broken + b"next", "table") == (4 + len(broken), {})
