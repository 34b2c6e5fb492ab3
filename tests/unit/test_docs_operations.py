"""The page about operations names every metric with its labels, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from interlock.adapters.telemetry import Metrics

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_table_names_every_metric() -> None:
    metrics = Metrics()
    ours = [value for value in vars(metrics).values() if hasattr(value, "_labelnames")]
    suffix = {"counter": "_total"}
    told = {
        each._name + suffix.get(each._type, "") + (f"{{{','.join(each._labelnames)}}}" if each._labelnames else "")  # noqa: SLF001 - the library tells it nowhere else
        for each in ours
    }
    assert set(re.findall(r"^\| `(interlock_[^`]+)` \|", PAGE, re.MULTILINE)) == told
