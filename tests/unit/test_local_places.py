"""Where private stacks live: held by a lock, shared below one state, swept after a crash."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from interlock.contract.errors import Misconfigured, Unavailable
from interlock.local import places
from interlock.local.rabbitmq import definitions_of, hash_of
from interlock.local.stack import Endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _root_keeps_its_databases_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(places, "OUTSIDE", tmp_path / "outside-of-all")
    return iter(())


def test_an_unnamed_place_is_gone_with_its_stack(tmp_path: Path) -> None:
    place = places.take(tmp_path / "state")
    place.open_outside()
    assert place.outside.is_dir()
    (place.folder / "data").write_text("x")
    place.release()
    assert not place.folder.exists()
    assert not place.outside.exists()


def test_a_named_place_is_kept_with_its_data(tmp_path: Path) -> None:
    place = places.take(tmp_path / "state", "up")
    (place.folder / "data").write_text("x")
    place.release()
    again = places.take(tmp_path / "state", "up")
    assert (again.folder / "data").read_text() == "x"
    again.release()


def test_a_name_is_refused_while_another_holds_it(tmp_path: Path) -> None:
    place = places.take(tmp_path / "state", "up")
    with pytest.raises(Unavailable, match="another process already runs the stack"):
        places.take(tmp_path / "state", "up")
    place.release()


def test_concurrent_stacks_share_packages_and_nothing_else(tmp_path: Path) -> None:
    one = places.take(tmp_path / "state")
    inside = places.take(one.folder)
    assert inside.packages == one.packages
    assert inside.folder != one.folder
    inside.release()
    one.release()


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path: Path) -> None:
    killed = places.take(tmp_path / "state")
    os.close(killed.lock)
    running = places.take(tmp_path / "state")
    assert not killed.folder.exists()
    next_one = places.take(tmp_path / "state")
    assert running.folder.exists()
    next_one.release()
    running.release()


def test_a_state_that_cannot_be_made_says_which_setting_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="INTERLOCK_STATE"):
        places.take(tmp_path / "file" / "state")


def test_endpoints_are_read_as_they_were_written_and_only_by_their_owner(tmp_path: Path) -> None:
    endpoints = Endpoints(database_url="d", amqp_url="a", executor="e", worker="w", client="c")
    endpoints.write(tmp_path)
    assert Endpoints.read(tmp_path) == endpoints
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["stack.json"]


def test_no_running_stack_is_said_with_what_starts_one(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="interlock up"):
        Endpoints.read(tmp_path)


def test_a_password_is_hashed_as_the_broker_does_it() -> None:
    # The example of RabbitMQ's own documentation: password test12, salt 908D C60A.
    assert hash_of("test12", bytes.fromhex("908DC60A")) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_roles_have_their_rights_on_the_prefixes_of_tests_too() -> None:
    document = definitions_of(dict.fromkeys(("owner", "executor", "worker", "client"), "secret"))
    rights = {entry["user"]: entry for entry in document["permissions"]}
    prefixes = "(interlock|t-[0-9a-f]+)"
    assert rights["interlock-client"]["read"] == rf"^client\..+$|^{prefixes}\.(status|completions)$"
    assert "completions" not in rights["interlock-executor"]["write"]
    assert rf"^{prefixes}\.completions$" in rights["interlock-worker"]["write"]
