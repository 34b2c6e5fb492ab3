"""The demo's job: what is submitted, in which order, and what each result must be. Submits through the client only.

Three waves: a checksum of every file and the symbols of every Python file; then, as results come, one fetch of each
result from the demo's own server; and at a third of the way some naps, so that the worker to be killed holds something.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from interlock.contract.errors import Unavailable
from interlock.contract.status import TERMINAL, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from pydantic import JsonValue

    from interlock.client import Client
    from interlock.client.records import Execution
    from interlock.local.demo_server import ResultServer

NAPS: Final = 8
NAP_SECONDS: Final = 3
LOOK_SECONDS: Final = 0.2
LEFT_OUT: Final = frozenset({"__pycache__", "build", "dist"})


def files_of(checkout: Path) -> list[Path]:
    """Return every file of a checkout: what git knows of, else all but what tools leave behind."""
    found = _tracked(checkout) or [path for path in checkout.rglob("*") if not _is_left_out(path.relative_to(checkout))]
    return sorted(path for path in found if path.is_file() and str(path).isprintable())


def _tracked(checkout: Path) -> list[Path]:
    git = shutil.which("git")
    if git is None or not (checkout / ".git").exists():
        return []
    # A checkout of another user is none to git: it says so, and lists nothing.
    listed = subprocess.run([git, "-C", str(checkout), "ls-files", "-z"], capture_output=True, check=False)
    return [checkout / name for name in listed.stdout.decode(errors="surrogateescape").split("\0") if name]


def _is_left_out(path: Path) -> bool:
    return any(part in LEFT_OUT or (part.startswith(".") and part != ".ci") for part in path.parent.parts)


def checksums(files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file that can be read, by its path."""
    found = {}
    for path in files:
        try:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            continue
    return found


def symbols(path: str) -> dict[str, JsonValue]:
    """Count what the symbols action must find, by other means: the names of all nodes."""
    kinds = Counter(type(node).__name__ for node in ast.walk(ast.parse(Path(path).read_bytes())))
    return {
        "functions": kinds["FunctionDef"] + kinds["AsyncFunctionDef"],
        "classes": kinds["ClassDef"],
        "imports": kinds["Import"] + kinds["ImportFrom"],
    }


@dataclass(slots=True)
class Job:
    """Everything that was submitted and how it ended. `total` is how many executions each action will have."""

    total: dict[str, int]
    submitted: set[UUID] = field(default_factory=set)
    ended: dict[UUID, Execution] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    fetched: dict[str, JsonValue] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many executions there will be."""
        return sum(self.total.values())

    @property
    def open(self) -> set[UUID]:
        """What was submitted and has not been seen to end."""
        return self.submitted - self.ended.keys()

    @property
    def failed(self) -> list[Execution]:
        """What ended in another way than `completed`."""
        return [execution for execution in self.ended.values() if execution.status is not Status.COMPLETED]

    @property
    def taken_over(self) -> int:
        """How many lost their worker and went on with another."""
        return sum(execution.losses > 0 for execution in self.ended.values())


class Runner:
    """Runs the job on a client and a result server."""

    def __init__(self, client: Client, server: ResultServer, files: Sequence[Path]) -> None:
        self._client = client
        self._server = server
        self._files = [str(path) for path in files]
        self._python = [path for path in self._files if path.endswith(".py")]
        results = len(self._files) + len(self._python)
        total = {"checksum": len(self._files), "symbols": len(self._python), "fetch": results, "nap": NAPS}
        self.job = Job(total=total)

    async def start(self) -> None:
        """Submit the first wave."""
        await self._submit("checksum", ({"path": path} for path in self._files))
        await self._submit("symbols", ({"path": path} for path in self._python))

    async def nap(self) -> None:
        """Submit what keeps a worker busy."""
        await self._submit("nap", [{"seconds": NAP_SECONDS}] * NAPS)

    async def look(self) -> None:
        """Take in what ended meanwhile, and ask back every result that is new."""
        found = await self._client.get_many(self.job.open)
        ended = [execution for execution in found.values() if execution.status in TERMINAL]
        fetches = []
        for execution in ended:
            self.job.ended[execution.id] = execution
            self.job.done[execution.action] += 1
            if execution.action in {"checksum", "symbols"} and execution.status is Status.COMPLETED:
                name = self._server.store(execution.result)
                self.job.fetched[name] = execution.result
                fetches.append({"port": self._server.port, "name": name})
            elif execution.action in {"checksum", "symbols"}:
                self.job.total["fetch"] -= 1
        await self._submit("fetch", fetches)

    async def until_done(self) -> None:
        """Look until everything that was submitted has ended."""
        while self.job.open:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def until_ended(self, share: float) -> None:
        """Look until this share of all executions has ended."""
        while len(self.job.ended) < share * self.job.size and self.job.open:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _submit(self, action: str, params: Iterable[Mapping[str, Any]]) -> None:
        answers = await self._client.submit([{"action": action, "params": dict(each)} for each in params])
        for answer in answers:
            if answer.id is None or not answer.accepted or answer.refused:
                raise Unavailable(f"{action} was not accepted: {answer.refused or answer.error}")
            self.job.submitted.add(answer.id)


def wrong_results(job: Job, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Name every completed execution whose result is not what it must be.

    `before` and `after` are checksums computed here: a file that was edited meanwhile has two that are right.
    """
    wrong = []
    for execution in job.ended.values():
        if execution.status is not Status.COMPLETED:
            continue
        path = str(execution.params.get("path", ""))
        edited = path in before and before[path] != after.get(path)
        if not (edited and execution.action == "symbols") and not _is_right(job, execution, path, (before, after)):
            wrong.append(f"{execution.action} {execution.params}: {execution.result}")
    return wrong


def _is_right(job: Job, execution: Execution, path: str, known: Sequence[Mapping[str, str]]) -> bool:
    result = execution.result
    if execution.action == "symbols":
        return result == symbols(path)
    if not isinstance(result, dict):
        return False
    if execution.action == "checksum":
        # sha256sum marks a line with a backslash when the file's name holds one.
        printed = str(result["stdout"]).removeprefix("\\").split(" ")[0]
        return printed in {each.get(path) for each in known}
    if execution.action == "fetch":
        return result["status"] == 200 and result["body"] == job.fetched[str(execution.params["name"])]  # noqa: PLR2004
    return result["exit_code"] == 0
