"""The report: Markdown and its plots, rendered from an outcome. Pure, so that wording needs no new measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.charts import charts
from bench.limits import LOOP, OTHERS
from bench.verdicts import Verdict, verdicts
from bench.wording import count, megabytes, microseconds, per_second, plain, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.outcome import Outcome
    from bench.readings import Readings

PAGE: Final = "report.md"
QUIET: Final = 0.05
"""The share of the processors that others may take without a warning."""
COSTS: Final = {
    "p1": "P1: no-ops",
    "p2": "P2: no-ops under a limit of 1,000",
    "p11": "P11: no-ops, two executors and two workers",
    "p3": "P3: no-ops at 50/s",
    "p4.limit1": "P4: limit 1, two executors",
    "p4.limit10": "P4: limit 10, two executors",
    "p5.amqp": "P5: accepted from messages, no worker",
    "p5.two": "P5: accepted from messages by two executors, no worker",
    "p5.library": "P5: accepted by the library, no daemon",
    "p6": "P6: commands",
    "p7": "P7: no-ops as the partitions of one batch",
    "rows": "The rows of P1 alone, by bare statements",
    "f1": "F1: one message, one update, one commit",
    "f2": "F2: the same in batches",
}
PARTS: Final = ("executor", "worker", "client", "database", "broker")
PEERS: Final = (
    "Of a peer only the draining of its backlog counts, from the first job that is seen done to the last (pgqueuer: "
    "from the start of its drain); its enqueueing is measured apart. Of Interlock everything counts, from the first "
    "request that is sent to the last slot that is released."
)
RANGES: Final = {
    "p1.per_second": "P1",
    "p2.per_second": "P2",
    "p11.per_second": "P11",
    "p3.p50_ms": "P3 p50, ms",
    "p3.p99_ms": "P3 p99, ms",
    "p4.limit1.share": "P4 limit 1, share",
    "p4.limit10.share": "P4 limit 10, share",
    "p5.amqp.per_second": "P5 messages",
    "p5.two.per_second": "P5 messages, two executors",
    "p5.library.per_second": "P5 library",
    "p6.per_second": "P6",
    "p7.read_p50_ms": "P7 reading of progress, ms",
    "p7.served_p50_ms": "P7 the same in the database, ms",
    "p7.select_p50_ms": "P7 `SELECT 1` beside it, ms",
    "f1.per_second": "F1",
    "f2.per_second": "F2",
    "f1.p50_ms": "F1 p50, ms",
    "f1.p99_ms": "F1 p99, ms",
    "f2.p50_ms": "F2 p50, ms",
    "f2.p99_ms": "F2 p99, ms",
    "p5.bare.per_second": "P5 bare consumer",
    "p6.bare.per_second": "P6 bare loop",
    "p6.contained.per_second": "P6 bare loop, contained",
    LOOP: "ten million additions in Python, s",
}


def render(outcome: Outcome) -> dict[str, str]:
    """Return the files of the report by name: the page, and one SVG for each plot."""
    plots = charts(outcome.readings)
    return {PAGE: _page(outcome, list(plots)), **plots}


def _page(outcome: Outcome, plots: Sequence[str]) -> str:
    found = verdicts(outcome.readings)
    return (
        "\n\n".join(
            [
                "# Benchmark report",
                (
                    f"Measured on {outcome.date}. Written by `./dev bench --peers --report`; [how to read and "
                    "reproduce it](README.md). Numbers are medians of the rounds; ratios compare medians of one run."
                ),
                *disturbed(outcome.readings),
                "## Targets",
                _verdicts(found),
                *_limits(found),
                "## Plots",
                *(f"![{name.removesuffix('.svg')}]({name})" for name in plots),
                "## What each execution costs",
                _costs(outcome.readings),
                *_peers(outcome),
                "## Ranges",
                _ranges(outcome.readings),
                "## Machine, servers, settings",
                table(["", ""], ([name, value] for name, value in [*outcome.facts.items(), *outcome.settings.items()])),
                *_missing(outcome.readings),
            ]
        )
        + "\n"
    )


def disturbed(readings: Readings) -> list[str]:
    """Warn of numbers that were measured while others used the machine."""
    most = readings.spread(OTHERS)[1] if OTHERS in readings else 0.0
    if most <= QUIET:
        return []
    told = (
        f"**The machine was not quiet**: other programs took up to {share(most)} of its processors during a "
        "round. Absolute numbers are too low, and ratios are uncertain."
    )
    return [told]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. A vertical line in a cell is escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _verdicts(found: Sequence[Verdict]) -> str:
    words = {True: "yes", False: "**no**", None: ""}
    return table(
        ["", "Figure", "Found", "Target", "Met", "In numbers"],
        ([v.figure, v.what, v.found, v.target, words[v.met], v.absolutes] for v in found),
    )


def _limits(found: Sequence[Verdict]) -> list[str]:
    """Say of each missed target what keeps it from being met; the same reason once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for verdict in found:
        if verdict.limits:
            reasons.setdefault((verdict.figure, verdict.limits), []).append(f"{verdict.what} ({verdict.found})")
    if not reasons:
        return []
    lines = [f"- **{figure}**, {'; '.join(what)}: {limits}." for (figure, limits), what in reasons.items()]
    return ["## What limits those that were not met", "\n".join(lines)]


def _costs(readings: Readings) -> str:
    rows = []
    for name, title in COSTS.items():
        if f"{name}.transactions" in readings:
            cpu = [readings.get(f"{name}.cpu_us.{part}") for part in PARTS]
            memory = [f"{name}.rss_mb.{part}" for part in ("executor", "worker")]
            rows.append(
                [
                    title,
                    f"{readings[f'{name}.transactions']:.3f}",
                    f"{readings[f'{name}.messages']:.3f}",
                    count(readings[f"{name}.wal_bytes"]),
                    microseconds(readings[f"{name}.cpu_us"]),
                    *("" if spent is None else count(spent) for spent in cpu),
                    " / ".join(megabytes(readings.spread(peak)[1]) for peak in memory if peak in readings),
                ]
            )
    heads = ["", "Transactions", "Messages", "WAL bytes", "CPU", *(f"{part}, µs" for part in PARTS), "Peak memory"]
    return table(heads, rows)


def _peers(outcome: Outcome) -> list[str]:
    if not outcome.peers:
        return []
    rows = [
        [
            name,
            per_second(outcome.readings[f"peer.{name}.per_second"]),
            per_second(outcome.readings[f"peer.{name}.enqueue_per_second"]),
            plain(outcome.readings[f"peer.{name}.jobs"]),
            ", ".join(f"{package} {version}" for package, version in peer.versions.items()),
            peer.settings,
        ]
        for name, peer in outcome.peers.items()
    ]
    return [
        "## Peers",
        PEERS,
        table(["", "Drained", "Enqueued", "Jobs", "Versions", "Settings"], rows),
    ]


def _ranges(readings: Readings) -> str:
    named = {**RANGES, **{f"peer.{name}.per_second": name for name in readings.named("peer")}}
    rows = []
    for name, title in named.items():
        if name in readings:
            lowest, highest = readings.spread(name)
            rows.append([title, plain(readings[name]), plain(lowest), plain(highest)])
    return table(["", "Median", "Lowest", "Highest"], rows)


def _missing(readings: Readings) -> list[str]:
    """Say what this run did not measure, and why."""
    lines = ["- **P5** by lists over HTTP needs an API, which does not exist yet."]
    if "p9.finished.large" not in readings:
        lines.append("- **P9** takes long: `./dev bench --only P9 --add`.")
    if "p10-hour.minutes" not in readings:
        lines.append("- The flat hour of **P10** takes an hour: `./dev bench --only P10-hour --add`.")
    return ["## Not measured", "\n".join(lines)]
