"""Ids that follow from what they name."""

from __future__ import annotations

import hashlib
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.contract.identity import child_id

# No deadline: a busy machine is no failure. No database: a test leaves nothing behind.
law = settings(deadline=None, database=None, max_examples=100)
PARENT = UUID("019f0000-1234-7abc-8def-0123456789ab")


def test_the_id_of_a_child_never_changes() -> None:
    assert child_id(PARENT, 1, "2026-01-01") == UUID("019f0000-1234-7f03-adbc-6e5d9a01f98b")


@law
@given(st.uuids(), st.integers(1, 2**31 - 1), st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_a_child_has_the_time_of_its_parent_and_the_rest_from_its_name(parent: UUID, epoch: int, key: str) -> None:
    made = child_id(parent, epoch, key)
    digest = hashlib.sha256(f"{parent}/{epoch}/{key}".encode()).digest()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == parent.int >> 80
    assert made.int & (2**62 - 1) == int.from_bytes(digest[2:10]) & (2**62 - 1)
    assert made.int >> 64 & 0x0FFF == int.from_bytes(digest[:2]) & 0x0FFF


def test_another_epoch_or_key_is_another_child() -> None:
    made = {child_id(PARENT, epoch, key) for epoch in (1, 2) for key in ("a", "b", "1/a")}
    assert len(made) == 6
