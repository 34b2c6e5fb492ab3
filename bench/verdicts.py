"""The targets, and what was found: ratio first, the absolute numbers behind it, and what limits a figure. Pure.

A rule speaks only when everything that it needs was measured in the same run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.limits import (
    acceptance_limit,
    busy_limit,
    command_limit,
    hand_off_limit,
    latency_limit,
    peer_limit,
    reading_limit,
)
from bench.wording import count, megabytes, microseconds, milliseconds, per_second, plain, seconds, share, times

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.readings import Readings

    Number = Callable[[Readings], float]
    Text = Callable[[Readings], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One target: `found` and `target` in the same unit, `met` None where there is none; `limits` if it was missed."""

    figure: str
    what: str
    found: str
    target: str
    met: bool | None
    absolutes: str
    limits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one verdict is reached from the readings named in `needs`. `at_least` or `at_most`; neither only tells."""

    figure: str
    what: str
    needs: tuple[str, ...]
    value: Number
    shown: Callable[[float], str]
    absolutes: Text
    limits: Text
    at_least: float | None = None
    at_most: float | None = None


def verdicts(readings: Readings) -> list[Verdict]:
    """Judge all that was measured, in the order of the figures."""
    return [_judged(rule, readings) for rule in RULES if readings.has(*rule.needs)]


def _judged(rule: Rule, readings: Readings) -> Verdict:
    value = rule.value(readings)
    met, target = None, "none"
    if rule.at_least is not None:
        met, target = value >= rule.at_least, f"≥ {rule.shown(rule.at_least)}"
    elif rule.at_most is not None:
        met, target = value <= rule.at_most, f"≤ {rule.shown(rule.at_most)}"
    return Verdict(
        figure=rule.figure,
        what=rule.what,
        found=rule.shown(value),
        target=target,
        met=met,
        absolutes=rule.absolutes(readings),
        limits=rule.limits(readings) if met is False else "",
    )


def against_peer(name: str, peer: str, at_least: float) -> Rule:
    """P1 over what a peer does with the same work in the same round."""
    other = f"peer.{name}.per_second"
    return Rule(
        figure="P1",
        what=f"no-ops per second, over {peer}",
        needs=("p1.per_second", "p1.cpu_us", other),
        value=lambda r: r.ratio("p1.per_second", other),
        shown=times,
        absolutes=lambda r: f"{per_second(r['p1.per_second'])}; {peer} {per_second(r[other])}",
        limits=peer_limit(name, at_least),
        at_least=at_least,
    )


def told_only(figure: str, what: str, name: str, floor: str, floor_name: str) -> Rule:
    """A rate beside a floor, without a target of its own."""
    return Rule(
        figure=figure,
        what=what,
        needs=(name, floor_name),
        value=lambda r: r.ratio(name, floor_name),
        shown=share,
        absolutes=lambda r: f"{per_second(r[name])}; {floor} {per_second(r[floor_name])}",
        limits=lambda _: "",
    )


def _hand_off(limit: int) -> Rule:
    name = f"p4.limit{limit}"
    return Rule(
        figure="P4",
        what=f"share of the ideal at limit {limit} with 20 ms of work",
        needs=(f"{name}.share", f"{name}.bare_quorum", f"{name}.bare_classic"),
        value=lambda r: r[f"{name}.share"],
        shown=share,
        absolutes=lambda r: (
            f"{per_second(r[f'{name}.share'] * 50 * limit)} of {per_second(50 * limit)}; bare relay "
            f"{share(r[f'{name}.bare_quorum'])} (quorum), {share(r[f'{name}.bare_classic'])} (classic), behind a "
            f"prefetch {share(r[f'{name}.prefetch'])}"
        ),
        limits=hand_off_limit(limit),
        at_least=0.85,
    )


def _latency(percentile: str, at_most: float) -> Rule:
    name = f"p3.{percentile}_ms"
    return Rule(
        figure="P3",
        what=f"{percentile} from submission to visible end, at 50/s",
        needs=(name, f"f1.{percentile}_ms"),
        value=lambda r: r[name],
        shown=milliseconds,
        absolutes=lambda r: (
            f"{times(r.ratio(name, f'f1.{percentile}_ms'))} F1, {milliseconds(r[f'f1.{percentile}_ms'])}"
        ),
        limits=latency_limit,
        at_most=at_most,
    )


def _cost(what: str, name: str, at_most: float | None, shown: Callable[[float], str]) -> Rule:
    def limits(readings: Readings) -> str:
        if name == "p1.cpu_us":
            return busy_limit("p1")(readings)
        return f"at this rate {1 / readings[name]:.1f} executions share one: batches grow only as far as work waits"

    return Rule(
        figure="P8",
        what=f"{what} per execution at the peak of P1",
        needs=(name, "p1.cpu_us"),
        value=lambda r: r[name],
        shown=shown,
        absolutes=lambda r: f"at {per_second(r['p1.per_second'])}",
        limits=limits,
        at_most=at_most,
    )


def _memory(role: str) -> Rule:
    name = f"p1.rss_mb.{role}"
    return Rule(
        figure="P10",
        what=f"peak memory of the {role} in P1",
        needs=(name,),
        value=lambda r: r.spread(name)[1],
        shown=megabytes,
        absolutes=lambda r: f"the largest of all rounds; median {megabytes(r[name])}",
        limits=lambda _: "this run tells how much it is, not where",
        at_most=120.0,
    )


def _beside_a_select(readings: Readings) -> str:
    """What the machine itself needs for an answer by that load, where it was asked."""
    most = readings.get("p7.select_max_ms")
    return "" if most is None else f"; a `SELECT 1` beside it took up to {milliseconds(most)}"


BATCH_LIMIT: Final = busy_limit("p7")


def _batch(
    what: str,
    measure: str,
    at_most: float,
    shown: Callable[[float], str],
    beside: Text = lambda _: "",
    limits: Text = BATCH_LIMIT,
) -> Rule:
    name = f"p7.{measure}"
    return Rule(
        figure="P7",
        what=what,
        needs=(name, "p7.partitions"),
        value=lambda r: r[name],
        shown=shown,
        absolutes=lambda r: f"{count(r['p7.partitions'])} partitions at {per_second(r['p7.per_second'])}{beside(r)}",
        limits=limits,
        at_most=at_most,
    )


def _flat(role: str) -> Rule:
    first, last = f"p10-hour.first_mb.{role}", f"p10-hour.last_mb.{role}"
    return Rule(
        figure="P10",
        what=f"memory of the {role} over a long run, last third over first third",
        needs=(first, last),
        value=lambda r: r.ratio(last, first),
        shown=times,
        absolutes=lambda r: (
            f"{megabytes(r[first])}, then {megabytes(r[last])}, over {plain(r['p10-hour.minutes'])} minutes at "
            f"{per_second(r['p10-hour.rate'])}"
        ),
        limits=lambda _: "see what grew: ./dev soak judges each process and table",
        at_most=1.1,
    )


def _growth(what: str, name: str) -> Rule:
    return Rule(
        figure="P9",
        what=what,
        needs=(f"p9.{name}.large", f"p9.{name}.small"),
        value=lambda r: r.ratio(f"p9.{name}.large", f"p9.{name}.small"),
        shown=share,
        absolutes=lambda r: (
            f"{per_second(r[f'p9.{name}.large'])} with {count(r[f'p9.{name}.large_rows'])} of them; "
            f"{per_second(r[f'p9.{name}.small'])} with {count(r[f'p9.{name}.small_rows'])}"
        ),
        limits=lambda _: (
            "this run tells that it slows, not why: see the plans of the hot statements and the sizes of tables"
        ),
        at_least=0.9,
    )


RULES: Final[tuple[Rule, ...]] = (
    against_peer("pgqueuer", "pgqueuer", 0.7),
    against_peer("celery", "Celery with results in PostgreSQL", 20.0),
    against_peer("taskiq", "taskiq with results in PostgreSQL", 5.0),
    told_only("P1", "no-ops per second, over the plain floor", "p1.per_second", "F1", "f1.per_second"),
    told_only("P1", "no-ops per second, over the batching floor", "p1.per_second", "F2", "f2.per_second"),
    Rule(
        figure="P2",
        what="the same under a limit of 1,000, over P1",
        needs=("p2.per_second", "p1.per_second"),
        value=lambda r: r.ratio("p2.per_second", "p1.per_second"),
        shown=share,
        absolutes=lambda r: f"{per_second(r['p2.per_second'])}; P1 {per_second(r['p1.per_second'])}",
        limits=busy_limit("p2"),
        at_least=0.8,
    ),
    _latency("p50", 6.0),
    _latency("p99", 10.0),
    _hand_off(1),
    _hand_off(10),
    Rule(
        figure="P5",
        what="accepted from messages of 500",
        needs=("p5.amqp.per_second", "p5.bare.per_second"),
        value=lambda r: r["p5.amqp.per_second"],
        shown=per_second,
        absolutes=lambda r: (
            f"{share(r.ratio('p5.amqp.per_second', 'p5.bare.per_second'))} of a bare consumer that inserts two "
            f"columns for each, {per_second(r['p5.bare.per_second'])}"
        ),
        limits=acceptance_limit,
        at_least=40_000.0,
    ),
    told_only("P5", "the same by two executors", "p5.two.per_second", "one executor", "p5.amqp.per_second"),
    told_only(
        "P5",
        "accepted by the client library, lists of 500",
        "p5.library.per_second",
        "bare consumer",
        "p5.bare.per_second",
    ),
    Rule(
        figure="P6",
        what="`/bin/true` as a command, over a bare loop that starts it",
        needs=("p6.per_second", "p6.bare.per_second"),
        value=lambda r: r.ratio("p6.per_second", "p6.bare.per_second"),
        shown=share,
        absolutes=lambda r: f"{per_second(r['p6.per_second'])}; bare loop {per_second(r['p6.bare.per_second'])}",
        limits=command_limit,
        at_least=0.6,
    ),
    _batch("planning of a batch", "planned_seconds", 90.0, seconds),
    _batch("a reading of its progress, in the median", "read_p50_ms", 5.0, milliseconds),
    _batch("the slowest reading of its progress", "read_max_ms", 5.0, milliseconds, _beside_a_select, reading_limit),
    _batch("updates of its row, of its partitions", "batch_updates", 0.02, share),
    _batch("peak memory of the executor", "rss_mb.executor", 150.0, megabytes),
    _batch("peak memory of the worker", "rss_mb.worker", 150.0, megabytes),
    _batch("the longest that a run behind it waited", "behind_seconds", 1.0, seconds),
    _cost("transactions", "p1.transactions", 0.05, lambda value: f"{value:.3f}"),
    _cost("messages", "p1.messages", 0.05, lambda value: f"{value:.3f}"),
    _cost("CPU over all processes", "p1.cpu_us", 150.0, microseconds),
    _cost("WAL bytes", "p1.wal_bytes", None, count),
    _growth("no-ops per second on much history, over little", "finished"),
    _growth("admissions per second from a long queue, over a short one", "waiting"),
    _memory("executor"),
    _memory("worker"),
    _flat("executor"),
    _flat("worker"),
    Rule(
        figure="P11",
        what="CPU per execution with two executors and two workers, over one of each",
        needs=("p11.cpu_us", "p1.cpu_us"),
        value=lambda r: r.ratio("p11.cpu_us", "p1.cpu_us"),
        shown=times,
        absolutes=lambda r: (
            f"{microseconds(r['p11.cpu_us'])} at {per_second(r['p11.per_second'])}; "
            f"{microseconds(r['p1.cpu_us'])} at {per_second(r['p1.per_second'])}"
        ),
        limits=busy_limit("p11"),
        at_most=1.2,
    ),
)
