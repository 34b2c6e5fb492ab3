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

from bench.floor import floor
from bench.throughput import Figures, prepare, throughput
from interlock.local.stack import Endpoints

ROUNDS = 3
EXECUTIONS = 20_000
FLOOR_MESSAGES = 5_000


async def run(rounds: int, count: int) -> dict[str, object]:
    """Alternate floor and product; returns medians and what they were measured on."""
    endpoints = _endpoints()
    await prepare(endpoints.database_url)
    floors: list[float] = []
    figures: list[Figures] = []
    with tempfile.TemporaryDirectory() as logs:
        for number in range(rounds):
            floors.append(await floor(endpoints.database_url, endpoints.amqp_url, FLOOR_MESSAGES))
            figures.append(await throughput(endpoints, Path(logs), count))
            print(  # noqa: T201 - progress
                f"round {number + 1}: F1 {floors[-1]:,.0f}/s, Interlock {figures[-1].per_second:,.0f}/s",
                file=sys.stderr,
            )

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
        "rounds": rounds,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


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
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    result = asyncio.run(run(arguments.rounds, arguments.executions))
    if arguments.json:
        print(json.dumps(result))  # noqa: T201 - the result
    else:
        for name, value in result.items():
            print(f"{name.replace('_', ' '):>28}  {value:,}" if not isinstance(value, str) else f"{name:>28}  {value}")  # noqa: T201


if __name__ == "__main__":
    main()
