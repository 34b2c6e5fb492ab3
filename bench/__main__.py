"""`./dev bench`: interleaved rounds of the floor and the product on the same servers; ratios first."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.floor import floor
from bench.handoff import LIMITS, HandOff, hand_off
from bench.throughput import Figures, prepare, throughput
from interlock.local.stack import Endpoints

if TYPE_CHECKING:
    from collections.abc import Sequence

WHAT = ("throughput", "handoff")
ROUNDS = 3
EXECUTIONS = 20_000
FLOOR_MESSAGES = 5_000


async def run(rounds: int, count: int, wanted: Sequence[str]) -> dict[str, object]:
    """Run what is wanted, round by round, each beside its floor; returns medians and what they were measured on."""
    endpoints = _endpoints()
    await prepare(endpoints.database_url)
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as logs:
        if "throughput" in wanted:
            result |= await _throughput(endpoints, Path(logs), rounds, count)
        if "handoff" in wanted:
            result |= await _hand_off(endpoints, Path(logs), rounds)
    return {**result, "rounds": rounds, "cores": os.cpu_count(), "python": platform.python_version()}


async def _throughput(endpoints: Endpoints, logs: Path, rounds: int, count: int) -> dict[str, object]:
    """Alternate the bare consumer and the product."""
    floors: list[float] = []
    figures: list[Figures] = []
    for number in range(rounds):
        floors.append(await floor(endpoints.database_url, endpoints.amqp_url, FLOOR_MESSAGES))
        figures.append(await throughput(endpoints, logs, count))
        _tell(f"round {number + 1}: F1 {floors[-1]:,.0f}/s, Interlock {figures[-1].per_second:,.0f}/s")

    def median(name: str) -> float:
        return float(statistics.median(getattr(figure, name) for figure in figures))

    return {
        "ratio_to_floor": round(median("per_second") / statistics.median(floors), 2),
        "executions_per_second": round(median("per_second")),
        "floor_per_second": round(statistics.median(floors)),
        "executor_mb": round(max(figure.executor_mb for figure in figures)),
        "worker_mb": round(max(figure.worker_mb for figure in figures)),
        "transactions_per_execution": round(median("transactions"), 3),
        "messages_per_execution": round(median("messages"), 3),
        "wal_bytes_per_execution": round(median("wal_bytes")),
        "executions": count,
    }


async def _hand_off(endpoints: Endpoints, logs: Path, rounds: int) -> dict[str, object]:
    """Alternate the limits, each after the same work without the product."""
    figures: dict[int, list[HandOff]] = {limit: [] for limit in LIMITS}
    for number in range(rounds):
        for limit, found in figures.items():
            now = await hand_off(endpoints, logs, limit)
            found.append(now)
            _tell(
                f"round {number + 1}: limit {limit}: {now.share:.1%} of the ideal, bare consumers {now.bare_share:.1%}"
            )
    return {
        f"handoff_{limit}_{name}": round(statistics.median(getattr(each, name) for each in found), 3)
        for limit, found in figures.items()
        for name in ("share", "bare_share", "floor_share", "release_ms", "start_ms", "work_ms")
    }


def _tell(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - progress


def _endpoints() -> Endpoints:
    state = os.environ.get("INTERLOCK_STATE")
    if state is None:
        sys.exit("bench: run it as `./dev bench`, which starts the servers")
    return Endpoints.read(Path(state))


def main() -> None:
    """Parse the options, run, print."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--executions", type=int, default=EXECUTIONS)
    parser.add_argument("--only", choices=WHAT, help="one of the two; both, where it is not given")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    result = asyncio.run(run(arguments.rounds, arguments.executions, [arguments.only] if arguments.only else WHAT))
    if arguments.json:
        print(json.dumps(result))  # noqa: T201 - the result
    else:
        for name, value in result.items():
            print(f"{name.replace('_', ' '):>28}  {value:,}" if not isinstance(value, str) else f"{name:>28}  {value}")  # noqa: T201


if __name__ == "__main__":
    main()
