"""Which plots the report has, and which readings each shows. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.svg import Bar, Kind, bars
from bench.wording import microseconds, milliseconds, per_second, share

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.readings import Readings

PEERS: Final = ("pgqueuer", "taskiq", "procrastinate", "celery")


def charts(readings: Readings) -> dict[str, str]:
    """Return the SVG documents by file name; a plot of which nothing was measured is left out."""
    drawn = {
        "throughput.svg": ("No-ops per second, accepted to released (red: 0.7 x pgqueuer)", _throughput(readings)),
        "latency.svg": ("From submission to visible end at 50/s (red: target)", _latency(readings)),
        "handoff.svg": ("Slot hand-off, 20 ms of work: share of the ideal (red: target)", _hand_off(readings)),
        "hops.svg": ("One hop through a queue, alone", _hops(readings)),
        "acceptance.svg": ("Requests accepted per second, lists of 500 (red: target)", _acceptance(readings)),
        "commands.svg": ("/bin/true per second (red: target)", _commands(readings)),
        "cpu.svg": ("CPU per execution at the peak of P1 (red: target)", _cpu(readings)),
    }
    return {name: bars(title, rows) for name, (title, rows) in drawn.items() if rows}


class _Rows:
    """Bars of one unit, for what was measured."""

    def __init__(self, readings: Readings, text: Callable[[float], str]) -> None:
        self._readings = readings
        self._text = text
        self.bars: list[Bar] = []

    def add(self, label: str, name: str, kind: Kind = "ours", target: float | None = None) -> None:
        if name in self._readings:
            value = self._readings[name]
            self.bars.append(Bar(label=label, value=value, text=self._text(value), kind=kind, target=target))


def _throughput(readings: Readings) -> list[Bar]:
    rows = _Rows(readings, per_second)
    peer = "peer.pgqueuer.per_second"
    rows.add("Interlock (P1)", "p1.per_second", target=0.7 * readings[peer] if peer in readings else None)
    rows.add("Interlock, limit 1,000 (P2)", "p2.per_second")
    rows.add("Interlock, two of each (P11)", "p11.per_second")
    for name in PEERS:
        rows.add(f"{name}, draining only", f"peer.{name}.per_second", "peer")
    rows.add("bare consumer (F1)", "f1.per_second", "floor")
    rows.add("bare batching consumer (F2)", "f2.per_second", "floor")
    return rows.bars if "p1.per_second" in readings else []


def _latency(readings: Readings) -> list[Bar]:
    rows = _Rows(readings, milliseconds)
    for percentile, target in (("p50", 6.0), ("p99", 10.0)):
        rows.add(f"Interlock, {percentile}", f"p3.{percentile}_ms", target=target)
        rows.add(f"bare consumer (F1), {percentile}", f"f1.{percentile}_ms", "floor")
        rows.add(f"bare batching (F2), {percentile}", f"f2.{percentile}_ms", "floor")
    return rows.bars if "p3.p50_ms" in readings else []


def _hand_off(readings: Readings) -> list[Bar]:
    rows = _Rows(readings, share)
    for limit in (1, 10):
        name = f"p4.limit{limit}"
        rows.add(f"Interlock, limit {limit}", f"{name}.share", target=0.85)
        rows.add("bare relay, quorum queues", f"{name}.bare_quorum", "floor")
        rows.add("bare relay, classic, transient", f"{name}.bare_classic", "floor")
        rows.add("one bare consumer, prefetch", f"{name}.prefetch", "floor")
        rows.add("semaphore on one event loop", f"{name}.semaphore", "floor")
    return rows.bars


def _hops(readings: Readings) -> list[Bar]:
    rows = _Rows(readings, milliseconds)
    for kind in ("quorum", "classic"):
        rows.add(f"{kind}, after 20 ms of silence", f"hop.{kind}.idle_ms", "floor")
        rows.add(f"{kind}, straight after another", f"hop.{kind}.busy_ms", "floor")
    return rows.bars


def _acceptance(readings: Readings) -> list[Bar]:
    rows = _Rows(readings, per_second)
    rows.add("Interlock, over AMQP", "p5.amqp.per_second", target=40_000.0)
    rows.add("Interlock, over AMQP, two executors", "p5.two.per_second")
    rows.add("Interlock, client library", "p5.library.per_second")
    rows.add("bare consumer and insert", "p5.bare.per_second", "floor")
    return rows.bars


def _commands(readings: Readings) -> list[Bar]:
    rows = _Rows(readings, per_second)
    bare = "p6.bare.per_second"
    rows.add("Interlock", "p6.per_second", target=0.6 * readings[bare] if bare in readings else None)
    rows.add("bare loop", bare, "floor")
    rows.add("bare loop, contained", "p6.contained.per_second", "floor")
    return rows.bars


def _cpu(readings: Readings) -> list[Bar]:
    rows = _Rows(readings, microseconds)
    rows.add("all", "p1.cpu_us", target=150.0)
    for part in ("executor", "worker", "database", "broker"):
        rows.add(part, f"p1.cpu_us.{part}")
    rows.add("bare batching consumer (F2), all", "f2.cpu_us", "floor")
    return rows.bars if "p1.cpu_us" in readings else []
