"""A private RabbitMQ: this machine only, with ports, name server and users of its own; its topology is the contract's.

Uses installed binaries, else Debian's packages unpacked privately. Must never meet another node or its name server.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from interlock.contract import topology
from interlock.local.children import Child, free_port
from interlock.local.packages import Packages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from interlock.local.places import Place

PREFIX: Final = "interlock"
# Tests that run side by side use names of their own; the roles have on these the rights they have on ours.
PREFIXES: Final = f"({PREFIX}|t-[0-9a-f]+)"
USERS: Final = {role: f"interlock-{role}" for role in ("owner", *topology.ROLES)}
SERVERS: Final = (
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
)
LOOPBACK: Final = '{host,{127,0,0,1},["localhost"]}.\n{lookup,[file,native]}.\n'
# Two schedulers and small buffers: the broker is a guest on a developer's machine.
ERLANG: Final = "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +A 8"
CONF: Final = """\
listeners.tcp.1 = 127.0.0.1:{port}
num_acceptors.tcp = 2
loopback_users = none
load_definitions = {definitions}
vm_memory_high_watermark.absolute = 768MB
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 33554432
log.console = true
log.console.level = info
log.file = false
"""


class RabbitMQ:
    """One broker in `place`, ready between `start` and `stop`, as often as wanted.

    `passwords` has one for each of USERS' roles. `listeners` are queues that it has from its first moment on, where
    every status and completion goes.
    """

    def __init__(
        self, place: Place, passwords: Mapping[str, str], say: Callable[[str], None], listeners: Sequence[str] = ()
    ) -> None:
        self._place = place
        self._passwords = passwords
        self._listeners = listeners
        self._packages = Packages(place.packages, say)
        self._port = free_port()
        self._folder = place.folder / "rabbitmq"
        self._log = place.folder / "log" / "rabbitmq.log"
        self._epmd: Child | None = None
        self._child: Child | None = None
        self._server: Path | None = None
        self._env: dict[str, str] = {}

    def url(self, role: str) -> str:
        """Return the address of the virtual host, for one of the roles owner, executor, worker and client."""
        return f"amqp://{USERS[role]}:{self._passwords[role]}@127.0.0.1:{self._port}/"

    async def start(self) -> None:
        """Start the broker, fetching it first where needed. Raises Unavailable."""
        installed = _installed()
        server, path = (installed, "") if installed else _unpacked(await self._packages.unpacked())
        self._write_files()
        self._server, self._env = Path(server), self._environment(path)
        env = self._env
        epmd = shutil.which("epmd", path=env["PATH"]) or _epmd_of(env["PATH"])
        # Ours and in the foreground: the one that Erlang would start by itself outlives everything.
        command = [epmd, "-port", env["ERL_EPMD_PORT"], "-address", "127.0.0.1"]
        self._epmd = Child("epmd", command, log=self._log, env=env)
        self._epmd.start()
        self._child = Child("rabbitmq", [str(server)], log=self._log, env=env)
        self._child.start()
        await self._child.until(self._answers, within=120)

    async def stop(self) -> None:
        """Stop the broker: orderly when its data is kept, at once when it is thrown away. Idempotent."""
        for child in (self._child, self._epmd):
            if child is not None:
                await child.stop(signal.SIGTERM if self._place.keep else signal.SIGKILL, grace=20)

    def wipe(self) -> None:
        """Throw away everything that the stopped broker knew: its next start is its first."""
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    async def control(self, *words: str) -> None:
        """Run `rabbitmqctl` with these words on the running broker. Raises Unavailable, with what it said."""
        if self._server is None:
            raise RuntimeError("the broker was not started")
        command = [str(self._server.with_name("rabbitmqctl")), *words]
        await Child("rabbitmqctl", command, log=self._log, env=self._env).run(within=60, hint="see the broker's log")

    def _write_files(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        definitions = self._folder / "definitions.json"
        _write(definitions, json.dumps(definitions_of(self._passwords, self._listeners)))
        _write(self._folder / "rabbitmq.conf", CONF.format(port=self._port, definitions=definitions))
        _write(self._folder / "enabled_plugins", "[].\n")
        _write(self._folder / "env.conf", "")
        _write(self._folder / "inetrc", LOOPBACK)
        cookie = self._folder / ".erlang.cookie"
        if not cookie.exists():
            _write(cookie, secrets.token_hex(20))
            cookie.chmod(0o400)

    def _environment(self, path: str) -> dict[str, str]:
        """Return the broker's whole environment: nothing of ours may leak into it."""
        folder = self._folder
        return {
            "HOME": str(folder),
            "PATH": ":".join(part for part in (path, "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin") if part),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": "interlock@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_INETRC": str(folder / "inetrc"),
            "ERL_CRASH_DUMP_SECONDS": "0",
            # Makes the start script become the server instead of waiting beside it: signals, and our death, reach it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    async def _answers(self) -> bool:
        """Say whether the broker greets: it opens its port last, with users, rights and topology in place."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        try:
            writer.write(b"AMQP\x00\x00\x09\x01")
            # The first frame is a method of channel 0: Connection.Start.
            return await asyncio.wait_for(reader.read(3), timeout=5) == b"\x01\x00\x00"
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()


def definitions_of(passwords: Mapping[str, str], listeners: Sequence[str] = ()) -> dict[str, Any]:
    """Return the contract's definitions with these users, their rights widened to the prefixes of tests."""
    users = {role: {"name": USERS[role], "password_hash": hash_of(passwords[role])} for role in USERS}
    document = topology.definitions(PREFIX, users)
    widened = {USERS[role]: rights for role, rights in topology.permissions("PREFIX").items()}
    for entry in document["permissions"]:
        rights = widened[entry["user"]]
        for kind in ("configure", "write", "read"):
            entry[kind] = getattr(rights, kind).replace("PREFIX", PREFIXES)
    names = topology.Topology(PREFIX)
    for listener in listeners:
        queue = topology.Queue(name=listener, arguments={"x-queue-type": "quorum"})
        heard = (names.status.name, names.completions.name)
        routes = [topology.Binding(exchange=name, routing_key="#", queue=listener) for name in heard]
        topology.add_queue(document, queue, routes)
    return document


def hash_of(password: str, salt: bytes | None = None) -> str:
    """Return RabbitMQ's password hash: base64 of a 4-byte salt and the SHA-256 of salt and password."""
    salt = secrets.token_bytes(4) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _installed() -> Path | None:
    return next((Path(server) for server in SERVERS if Path(server).exists()), None)


def _unpacked(root: Path) -> tuple[Path, str]:
    server = next((root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    return server, str(root / "usr/lib/erlang/bin")


def _epmd_of(path: str) -> str:
    """Find the name server that lies beside an installed Erlang but not on its path."""
    erl = shutil.which("erl", path=path)
    found = next(Path(erl).resolve().parent.parent.glob("erts-*/bin/epmd"), None) if erl else None
    return str(found or "epmd")


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
