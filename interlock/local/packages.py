"""RabbitMQ's and Erlang's Debian packages, fetched by apt and unpacked in a folder of ours.

Nothing is installed: installing would start a public service. Works without root: apt's state and cache are ours too.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
from typing import TYPE_CHECKING, Final

from interlock.contract.errors import Unavailable
from interlock.local.children import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

WANTED: Final = re.compile(r"^(?:erlang|rabbitmq)-[a-z0-9-]+$", re.MULTILINE)
TREE: Final = "rabbitmq"
MARK: Final = ".unpacked"
HINT: Final = "give a broker's address in INTERLOCK_AMQP_URL, or install RabbitMQ (Homebrew: brew install rabbitmq)"
# Read after the system's own files, whose sources and proxies are used and whose hooks are not ours to run.
APT_CONF: Final = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "root";
Dir::State "{apt}/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{apt}/cache";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
"""


class Packages:
    """The unpacked packages in `folder`, shared by all stacks of a state."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._apt = folder / "apt"

    async def unpacked(self) -> Path:
        """Return the root under which the packages lie, fetching them first where needed.

        Raises Unavailable, saying what else to do, where there is no apt or no network.
        """
        tree = self._folder / TREE
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("ab") as lock:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            if not _is_unpacked(tree):
                await self._fetch(tree)
        return tree

    async def _fetch(self, tree: Path) -> None:
        tools = ("apt-get", "apt-cache", "dpkg-deb")
        missing = [tool for tool in tools if shutil.which(tool) is None]
        if missing:
            raise Unavailable(f"RabbitMQ is not installed and cannot be fetched without {', '.join(missing)}: {HINT}")
        self._say("fetching RabbitMQ and Erlang (once)")
        shutil.rmtree(self._apt, ignore_errors=True)
        archives = self._apt / "cache" / "archives" / "partial"
        for made in (self._apt / "state" / "lists" / "partial", archives, self._apt / "debs"):
            made.mkdir(parents=True)
        (self._apt / "apt.conf").write_text(APT_CONF.format(apt=self._apt))
        await self._run("apt-update", [*self._tool("apt-get"), "-q", "update"])
        names = await self._names()
        await self._run("apt-download", [*self._tool("apt-get"), "-q", "download", *names])
        partial = tree.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        for archive in sorted((self._apt / "debs").glob("*.deb")):
            await self._run("dpkg-deb", ["dpkg-deb", "-x", str(archive), str(partial)])
        _relocate(partial, tree)
        shutil.rmtree(tree, ignore_errors=True)
        partial.rename(tree)
        shutil.rmtree(self._apt)

    async def _names(self) -> list[str]:
        """Ask apt which packages of the two families the server needs."""
        without = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        listing = await self._run(
            "apt-depends",
            [
                *self._tool("apt-cache"),
                "depends",
                "--recurse",
                *(f"--no-{kind}" for kind in without),
                "rabbitmq-server",
            ],
        )
        names = sorted(set(WANTED.findall(listing)))
        if "rabbitmq-server" not in names:
            raise Unavailable(f"apt knows no package rabbitmq-server: {HINT}")
        return names

    def _tool(self, name: str) -> list[str]:
        return [name, f"--config-file={self._apt / 'apt.conf'}"]

    async def _run(self, name: str, command: Sequence[str]) -> str:
        """Run one step in the folder of archives and return what it said."""
        log = self._apt / f"{name}.log"
        child = Child(name, command, log=log, env={**_bare(), "LC_ALL": "C"}, folder=self._apt / "debs")
        await child.run(within=300, hint=HINT)
        return log.read_text(errors="replace")


def _bare() -> dict[str, str]:
    """Return what apt may know of our environment: the way to its programs and through proxies."""
    wanted = ("PATH", "HOME", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return {name: os.environ[name] for name in wanted if name in os.environ}


def _is_unpacked(tree: Path) -> bool:
    mark = tree / MARK
    return mark.exists() and mark.read_text() == str(tree)


def _relocate(partial: Path, tree: Path) -> None:
    """Make the unpacked Erlang look for itself under `tree`, where `partial` is going to be."""
    erl = partial / "usr" / "lib" / "erlang" / "bin" / "erl"
    home = tree / "usr" / "lib" / "erlang"
    erl.write_text(re.sub(r"ROOTDIR=/usr/lib/erlang$", f'ROOTDIR="{home}"', erl.read_text(), flags=re.MULTILINE))
    (partial / MARK).write_text(str(tree))
