"""The benchmark from end to end, as small as it gets: a floor and a figure, judged and told in one line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


async def test_a_tiny_benchmark_measures_a_figure_beside_its_floors() -> None:
    words = ("--only", "p8", "--rounds", "1", "--executions", "200", "--json")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench", *words, cwd=ROOT, env=os.environ, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    medians = json.loads(said.splitlines()[-1])["medians"]
    for name in (
        "f1.per_second",
        "f2.per_second",
        "p1.per_second",
        "p1.transactions",
        "p1.wal_bytes",
        "p1.rss_mb.worker",
    ):
        assert medians[name] > 0, name
    # One message asks for all of them; the worker and the database did something.
    assert 0 < medians["p1.messages"] < 1
    assert medians["p1.cpu_us"] >= medians["p1.cpu_us.worker"] > 0
