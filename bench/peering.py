"""Peers: each in a virtual environment of its own under .run/peers, from exact versions, as a program of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.outcome import Peer
from bench.readings import named
from interlock.contract.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.readings import Reading
    from bench.stage import Stage

NAMES: Final = ("pgqueuer", "taskiq", "procrastinate", "celery")
ROOT: Final = Path(__file__).parents[1]
PROGRAMS: Final = Path(__file__).with_name("peers")
STAMP: Final = "requirements.txt"
CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
PATIENCE_SECONDS: Final = 300.0
TAIL: Final = 15


async def prepare() -> None:
    """Make the environments that are not there, or not of the versions wanted. Raises Unavailable."""
    for name in NAMES:
        folder, wanted = _folder(name), PROGRAMS / f"{name}.txt"
        stamp = folder / STAMP
        if stamp.exists() and stamp.read_text() == wanted.read_text():
            continue
        await _uv("venv", "-q", "--clear", "--python", sys.executable, str(folder))
        await _uv("pip", "install", "-q", "--python", str(folder / "bin/python"), "-r", str(wanted))
        stamp.write_text(wanted.read_text())


async def run(stage: Stage, name: str, jobs: int) -> tuple[Reading, Peer]:
    """Let one peer enqueue and drain so many no-ops on a database of its own. Raises Unavailable if it fails."""
    async with stage.database(empty=True) as endpoints:
        env = {
            "PATH": os.environ.get("PATH", ""),
            "BENCH_DATABASE_URL": endpoints.database_url,
            "BENCH_AMQP_URL": endpoints.amqp_url,
            "BENCH_COUNT": str(jobs),
        }
        # -I: a program is named as the package that it imports, which must not find the program instead.
        told = await _output([str(_folder(name) / "bin/python"), "-I", str(PROGRAMS / f"{name}.py")], env)
    # Its workers may have said something, too.
    found = json.loads(next(line for line in reversed(told.splitlines()) if line.startswith("{")))
    rates = {key: float(found[key]) for key in ("per_second", "enqueue_per_second")}
    reading = named(f"peer.{name}", {**rates, "jobs": float(jobs)})
    return reading, Peer(versions=found["versions"], settings=found["settings"])


def _folder(name: str) -> Path:
    return ROOT / ".run" / "peers" / name


async def _uv(*words: str) -> None:
    cache = os.environ.get("UV_CACHE_DIR", str(ROOT / ".run/cache/uv"))
    # The system's certificates, where it has any, also know the authority of a company's proxy.
    env = {**os.environ, "UV_CACHE_DIR": cache, "UV_SYSTEM_CERTS": "1" if CERTIFICATES.exists() else "0"}
    await _output([str(Path(sys.executable).with_name("uv")), *words], env)


async def _output(command: list[str], env: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, 9)
    text = said.decode(errors="replace").strip()
    if process.returncode != 0:
        end = "\n".join(text.splitlines()[-TAIL:])
        raise Unavailable(f"{' '.join(command[:3])} ended with exit code {process.returncode}; it said:\n{end}")
    return text
