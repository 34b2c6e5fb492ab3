"""Who may write where: the names, the rights as RabbitMQ reads them, and the document that brings a broker back."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.contract.topology import RESERVED_POOLS, ROLES, UNLIMITED, Topology, definitions, permissions

USERS = {role: {"name": f"interlock-{role}", "password_hash": f"hash of {role}"} for role in ("owner", *ROLES)}

MAY_WRITE = {
    "interlock.requests": {"client", "executor"},
    "interlock.dispatch": {"executor"},
    "interlock.status": {"executor", "worker"},
    "interlock.completions": {"worker"},
    "interlock.control": {"executor", "worker"},
    "interlock.relay": {"executor"},
    "interlock.dead": set(),
    "amq.default": set(),
    "amq.topic": set(),
    "": set(),
    "interlockXcompletions": set(),
    "interlock.completions.more": set(),
    "my.interlock.requests": set(),
    "client.mine": {"client"},
    "interlock.worker.default": {"executor", "worker"},
    "interlock.control.1": {"executor", "worker"},
    "interlock.executor.requests": set(),
    "interlock.dead.letters": set(),
}
MAY_READ = {
    "interlock.executor.requests": {"executor"},
    "interlock.executor.status_changed": {"executor"},
    "interlock.executor.completed": {"executor"},
    "interlock.worker.default": {"worker"},
    "interlock.worker.relay": {"worker"},
    "interlock.dead": {"executor"},
    "interlock.control.1": {"executor", "worker"},
    "interlock.status": {"client"},
    "interlock.completions": {"client"},
    "interlock.requests": set(),
    "client.mine": {"client"},
}
MAY_CONFIGURE = {
    "interlock.requests": set(),
    "interlock.completions": set(),
    "interlock.executor.requests": set(),
    "interlock.worker.default": {"executor", "worker"},
    "interlock.control.1": {"executor", "worker"},
    "client.mine": {"client"},
    "anything": set(),
}


def allowed(right: str, name: str, prefix: str = "interlock") -> set[str]:
    """Return the roles with a right on a name, by RabbitMQ's rule: an unanchored search."""
    rights = permissions(prefix)
    return {role for role in ROLES if re.search(getattr(rights[role], right), name)}


@pytest.mark.parametrize(("name", "roles"), MAY_WRITE.items())
def test_only_its_publishers_may_write(name: str, roles: set[str]) -> None:
    assert allowed("write", name) == roles


@pytest.mark.parametrize(("name", "roles"), MAY_READ.items())
def test_only_its_consumers_may_read(name: str, roles: set[str]) -> None:
    assert allowed("read", name) == roles


@pytest.mark.parametrize(("name", "roles"), MAY_CONFIGURE.items())
def test_only_its_owner_may_declare(name: str, roles: set[str]) -> None:
    assert allowed("configure", name) == roles


def test_the_rights_follow_the_writers_that_each_exchange_names() -> None:
    for exchange in Topology().exchanges:
        assert allowed("write", exchange.name) == exchange.writers


def test_completions_have_one_publisher_and_it_is_the_worker() -> None:
    assert Topology().completions.writers == {"worker"}


def test_the_owner_may_do_everything() -> None:
    owner = permissions()["owner"]
    assert {owner.configure, owner.write, owner.read} == {".*"}


@given(st.text(alphabet="abc.+-_0", min_size=1, max_size=12))
def test_a_prefix_is_taken_literally(prefix: str) -> None:
    name = Topology(prefix).completions.name
    assert allowed("write", name, prefix) == {"worker"}
    assert allowed("write", "x" + name, prefix) == set()
    assert allowed("write", name.replace(".", "x"), prefix) == set()


def test_every_shared_queue_is_a_durable_quorum_queue_that_never_gives_up() -> None:
    for queue in (*Topology().queues, Topology().pool_queue("default")):
        assert queue.durable
        assert not queue.exclusive
        assert queue.arguments["x-queue-type"] == "quorum"
        assert queue.arguments["x-delivery-limit"] == UNLIMITED


def test_a_control_queue_lives_with_its_process() -> None:
    queue = Topology().control_queue("7")
    assert (queue.name, queue.durable, queue.exclusive, dict(queue.arguments)) == (
        "interlock.control.7",
        False,
        True,
        {},
    )
    binding = Topology().control_binding("7")
    assert (binding.exchange, binding.routing_key, binding.queue) == ("interlock.control", "7", queue.name)


def test_a_pool_is_routed_by_its_name() -> None:
    binding = Topology("x").pool_binding("gpu")
    assert (binding.exchange, binding.routing_key, binding.queue) == ("x.dispatch", "gpu", "x.worker.gpu")


def test_the_name_of_the_relay_queue_is_not_free_for_a_pool() -> None:
    assert Topology().relay_queue.name == Topology().pool_queue("relay").name
    assert "relay" in RESERVED_POOLS


def test_every_shared_queue_is_bound_and_every_binding_leads_somewhere() -> None:
    topology = Topology()
    exchanges, queues = ({thing.name for thing in things} for things in (topology.exchanges, topology.queues))
    assert {binding.queue for binding in topology.bindings} == queues
    assert {binding.exchange for binding in topology.bindings} <= exchanges


def test_the_definitions_hold_the_whole_topology_and_every_right() -> None:
    topology, document = Topology("x"), definitions("x", USERS, "/test")
    assert json.loads(json.dumps(document)) == document
    assert [(e["name"], e["type"]) for e in document["exchanges"]] == [(e.name, e.type) for e in topology.exchanges]
    assert [(q["name"], q["arguments"]) for q in document["queues"]] == [(q.name, q.arguments) for q in topology.queues]
    assert [(b["source"], b["routing_key"], b["destination"]) for b in document["bindings"]] == [
        (b.exchange, b.routing_key, b.queue) for b in topology.bindings
    ]
    rights = permissions("x")
    assert {p["user"]: (p["configure"], p["write"], p["read"]) for p in document["permissions"]} == {
        user["name"]: (rights[role].configure, rights[role].write, rights[role].read) for role, user in USERS.items()
    }
    assert document["vhosts"] == [{"name": "/test"}]
    parts = ("permissions", "exchanges", "queues", "bindings")
    assert {entry["vhost"] for part in parts for entry in document[part]} == {"/test"}
    assert all(entry["durable"] for part in ("exchanges", "queues") for entry in document[part])


def test_the_definitions_make_only_the_owner_an_administrator_and_hold_no_plain_password() -> None:
    users = definitions("x", USERS)["users"]
    assert {user["name"] for user in users if user["tags"] == "administrator"} == {"interlock-owner"}
    assert all(user["hashing_algorithm"] == "rabbit_password_hashing_sha256" for user in users)
    assert all("password" not in user for user in users)
