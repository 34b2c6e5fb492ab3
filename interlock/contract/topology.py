"""Exchanges, queues, bindings and who may write where, as data.

Law 3. Each message type has one publisher. Only worker processes publish `execution.completed`; the broker's
permissions refuse anyone else.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROLES = ("executor", "worker", "client")
RESERVED_POOLS = frozenset({"relay"})
# RabbitMQ 3.10 refuses -1 and 4.x gives up after 20 deliveries unless told otherwise: the largest value both take.
UNLIMITED = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One durable exchange; `writers` are the roles whose rights let them publish to it."""

    name: str
    type: str
    writers: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """One queue and its complete arguments. A quorum queue is durable; a control queue lives with its process."""

    name: str
    arguments: Mapping[str, str | int] = field(default_factory=dict)
    durable: bool = True
    exclusive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One route from an exchange to a queue."""

    exchange: str
    routing_key: str
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """RabbitMQ's three rights of one user, as regular expressions over resource names."""

    configure: str
    write: str
    read: str


@dataclass(frozen=True, slots=True)
class Topology:
    """Every name of one deployment; all start with `prefix` so that deployments can share a broker."""

    prefix: str = "interlock"

    @property
    def requests(self) -> Exchange:
        """Where anyone asks."""
        return Exchange(name=f"{self.prefix}.requests", type="direct", writers=frozenset({"client", "executor"}))

    @property
    def dispatch(self) -> Exchange:
        """Admitted work, routed by pool."""
        return Exchange(name=f"{self.prefix}.dispatch", type="direct", writers=frozenset({"executor"}))

    @property
    def status(self) -> Exchange:
        """Every move that matters, from the owner of the move."""
        return Exchange(name=f"{self.prefix}.status", type="topic", writers=frozenset({"executor", "worker"}))

    @property
    def completions(self) -> Exchange:
        """One event per execution and epoch; workers only (law 3)."""
        return Exchange(name=f"{self.prefix}.completions", type="topic", writers=frozenset({"worker"}))

    @property
    def control(self) -> Exchange:
        """To one process: cancel, canary."""
        return Exchange(name=f"{self.prefix}.control", type="direct", writers=frozenset({"executor", "worker"}))

    @property
    def relay(self) -> Exchange:
        """Nudges to workers: outbox rows of their role wait."""
        return Exchange(name=f"{self.prefix}.relay", type="direct", writers=frozenset({"executor"}))

    @property
    def dead(self) -> Exchange:
        """Dead letters, written by the broker itself."""
        return Exchange(name=f"{self.prefix}.dead", type="fanout", writers=frozenset())

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All of them, in the order in which they are declared."""
        return (self.requests, self.dispatch, self.status, self.completions, self.control, self.relay, self.dead)

    def _quorum(self, name: str, more: Mapping[str, str | int] | None = None) -> Queue:
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED, **(more or {})}
        return Queue(name=f"{self.prefix}.{name}", arguments=arguments)

    @property
    def requests_queue(self) -> Queue:
        """Requests: no delivery limit (a request is the one message that carries), dead letters kept."""
        return self._quorum("executor.requests", {"x-dead-letter-exchange": self.dead.name})

    @property
    def status_queue(self) -> Queue:
        """Hints to the ExecutionManager."""
        return self._quorum("executor.status_changed")

    @property
    def completed_queue(self) -> Queue:
        """Hints to the CompletionListener."""
        return self._quorum("executor.completed")

    @property
    def relay_queue(self) -> Queue:
        """Competing nudges: any worker may publish what waits."""
        return self._quorum("worker.relay")

    @property
    def dead_queue(self) -> Queue:
        """Drained into `poison_message`."""
        return self._quorum("dead")

    def pool_queue(self, pool: str) -> Queue:
        """The dispatch queue of one worker pool, declared by whoever first needs it."""
        return self._quorum(f"worker.{pool}")

    def control_queue(self, process: str) -> Queue:
        """The queue of one process: exclusive, gone with its connection."""
        return Queue(name=f"{self.prefix}.control.{process}", durable=False, exclusive=True)

    @property
    def queues(self) -> tuple[Queue, ...]:
        """The shared queues; pools and processes add their own."""
        return (self.requests_queue, self.status_queue, self.completed_queue, self.relay_queue, self.dead_queue)

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """The shared routes."""
        return (
            *(
                Binding(exchange=self.requests.name, routing_key=key, queue=self.requests_queue.name)
                for key in ("execution.requested", "execution.cancel_requested")
            ),
            Binding(exchange=self.status.name, routing_key="execution.status_changed.#", queue=self.status_queue.name),
            Binding(
                exchange=self.completions.name, routing_key="execution.completed.#", queue=self.completed_queue.name
            ),
            Binding(exchange=self.relay.name, routing_key="worker", queue=self.relay_queue.name),
            Binding(exchange=self.dead.name, routing_key="", queue=self.dead_queue.name),
        )

    def pool_binding(self, pool: str) -> Binding:
        """The route of one pool."""
        return Binding(exchange=self.dispatch.name, routing_key=pool, queue=self.pool_queue(pool).name)

    def control_binding(self, process: str) -> Binding:
        """The route to one process."""
        return Binding(exchange=self.control.name, routing_key=process, queue=self.control_queue(process).name)


def permissions(prefix: str = "interlock") -> dict[str, Permission]:
    """The rights of each user: `owner` declares everything, the others only what they own.

    An executor cannot write `<prefix>.completions`: the broker closes its channel with 403. The default exchange is
    denied to all three roles, as no expression matches it.
    """
    topology, p = Topology(prefix), re.escape(prefix)

    def writes(role: str, *more: str) -> str:
        names = [re.escape(exchange.name) for exchange in topology.exchanges if role in exchange.writers]
        return "|".join(f"^{name}$" for name in (*names, *more))

    own = rf"{p}\.worker\..+", rf"{p}\.control\..+"
    declares = "|".join(f"^{name}$" for name in own)
    return {
        "owner": Permission(configure=".*", write=".*", read=".*"),
        "executor": Permission(
            configure=declares,
            write=writes("executor", *own),
            read=rf"^{p}\.(executor|control)\..+$|^{p}\.(control|dispatch|dead)$",
        ),
        "worker": Permission(
            configure=declares,
            write=writes("worker", *own),
            read=rf"^{p}\.(worker|control)\..+$|^{p}\.(control|dispatch|relay)$",
        ),
        "client": Permission(
            configure=r"^client\..+$",
            write=writes("client", r"client\..+"),
            read=rf"^client\..+$|^{p}\.(status|completions)$",
        ),
    }


def definitions(prefix: str, users: Mapping[str, Mapping[str, Any]], vhost: str = "/") -> dict[str, Any]:
    """A RabbitMQ definitions document: topology and rights, so that a wiped broker comes back right.

    `users` maps a role ("owner", "executor", "worker", "client") to {"name", "password_hash"}.
    """
    topology, rights = Topology(prefix), permissions(prefix)
    hashed = {"hashing_algorithm": "rabbit_password_hashing_sha256"}
    return {
        "vhosts": [{"name": vhost}],
        "users": [
            {**user, **hashed, "tags": "administrator" if role == "owner" else ""} for role, user in users.items()
        ],
        "permissions": [{"user": user["name"], "vhost": vhost, **asdict(rights[role])} for role, user in users.items()],
        "exchanges": [_exchange(exchange, vhost) for exchange in topology.exchanges],
        "queues": [_queue(queue, vhost) for queue in topology.queues],
        "bindings": [_binding(binding, vhost) for binding in topology.bindings],
    }


def add_queue(document: dict[str, Any], queue: Queue, bindings: Sequence[Binding], vhost: str = "/") -> None:
    """Add one more queue, with its routes, to a definitions document."""
    document["queues"].append(_queue(queue, vhost))
    document["bindings"] += [_binding(binding, vhost) for binding in bindings]


def _exchange(exchange: Exchange, vhost: str) -> dict[str, Any]:
    kept = {"durable": True, "auto_delete": False, "internal": False, "arguments": {}}
    return {"name": exchange.name, "vhost": vhost, "type": exchange.type, **kept}


def _queue(queue: Queue, vhost: str) -> dict[str, Any]:
    arguments = dict(queue.arguments)
    return {"name": queue.name, "vhost": vhost, "durable": True, "auto_delete": False, "arguments": arguments}


def _binding(binding: Binding, vhost: str) -> dict[str, Any]:
    return {
        "source": binding.exchange,
        "vhost": vhost,
        "destination": binding.queue,
        "destination_type": "queue",
        "routing_key": binding.routing_key,
        "arguments": {},
    }
