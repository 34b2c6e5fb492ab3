"""What limits a figure that missed its target, told by parts that were measured in the same run. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.wording import microseconds, milliseconds, per_second, plain, share

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.readings import Readings

    Text = Callable[[Readings], str]

CORES: Final = "machine.cores"
OTHERS: Final = "machine.others"
"""The share of all processors that other programs took during a round."""
LOOP: Final = "machine.loop_s"
"""How long the machine took for a loop of ten million additions in Python, after a round."""
WORK_MS: Final = 20.0
"""How long the work of P4 takes."""
RATE: Final = 50.0
"""Executions per second in P3."""


def busy_limit(name: str) -> Text:
    """Say how far the processors go at what one execution costs; of P1 also what the bare floor pays for a message."""

    def text(readings: Readings) -> str:
        told = _ends_at(name, readings)
        if name == "p1" and readings.has("rows.cpu_us.database"):
            told += (
                f"; the rows that one leaves or passes through, in the same tables and flushes but written by bare "
                "statements that decide nothing, by one connection while nobody else is there, cost the database "
                f"{microseconds(readings['rows.cpu_us.database'])} and {plain(readings['rows.wal_bytes'])} bytes of WAL"
            )
        if name == "p1" and readings.has("f2.per_second", "f2.cpu_us"):
            told += (
                f"; a bare batching consumer (F2), with one message and one update of one column for each and nothing "
                f"else, does {per_second(readings['f2.per_second'])} at {microseconds(readings['f2.cpu_us'])}"
            )
        return told

    return text


def peer_limit(peer: str, at_least: float) -> Text:
    """Say of P1 against a peer what is asked of it, in terms of the bare batching floor, and what one costs."""

    def text(readings: Readings) -> str:
        told = busy_limit("p1")(readings)
        if not readings.has("f2.per_second", "f2.cpu_us"):
            return told  # which has not said then what "that" is
        asked = at_least * readings[f"peer.{peer}.per_second"]
        return f"{told}. What is asked for, {per_second(asked)}, is {share(asked / readings['f2.per_second'])} of that"

    return text


def _ends_at(name: str, readings: Readings) -> str:
    """Say where the processors end, and where the busiest of our processes does, which has one thread."""
    cores = readings[CORES]
    told = (
        f"{_spent(name, readings)}, so {plain(cores)} cores end at "
        f"{per_second(cores * 1e6 / readings[f'{name}.cpu_us'])} however the rest is arranged"
    )
    most, busiest = max((readings.get(f"{name}.cpu_us.{role}") or 0.0, role) for role in ("executor", "worker"))
    return f"{told}, and one {busiest}, which uses one of them, at {per_second(1e6 / most)}" if most else told


def _spent(name: str, readings: Readings) -> str:
    parts = {part: readings.get(f"{name}.cpu_us.{part}") for part in ("executor", "worker", "database", "broker")}
    listed = ", ".join(f"{part} {microseconds(spent)}" for part, spent in parts.items() if spent is not None)
    return f"one execution costs {microseconds(readings[f'{name}.cpu_us'])} of CPU ({listed})"


def acceptance_limit(readings: Readings) -> str:
    """Say what one executor does beside its database, and how far two of them go."""
    busy = readings["p5.amqp.per_second"] * readings["p5.amqp.cpu_us.executor"] / 1e6
    told = (
        f"{_ends_at('p5.amqp', readings)}; it reads and judges the next requests while its database writes those "
        f"before them, one after the other as they were sent, and uses {share(busy)} of its processor"
    )
    if not readings.has("p5.two.per_second", "p5.two.cpu_us"):
        return told
    rate, spent = readings["p5.two.per_second"], readings["p5.two.cpu_us"]
    return (
        f"{told}. Two executors make {per_second(rate)} at {microseconds(spent)} for each, which is "
        f"{share(rate * spent / 1e6 / readings[CORES])} of all processors, without the sender"
    )


def command_limit(readings: Readings) -> str:
    """Say what starting a program leaves for everything else."""
    bare = readings[CORES] * 1e6 / readings["p6.bare.per_second"]
    told = (
        f"{_ends_at('p6', readings)}; the worker's part has the programs themselves in it, and the bare loop, which "
        f"does nothing else, has {microseconds(bare)} for each"
    )
    contained = readings.get("p6.contained.per_second")
    if contained is None:
        return told
    return (
        f"{told}. A bare loop that contains each as an action's command is contained (a session of its own, no new "
        f"rights, dead with its parent, its output read; one program more to start) makes {per_second(contained)}"
    )


def latency_limit(readings: Readings) -> str:
    """Say of which hops and commits a latency is made, and how busy the processors are that it meets."""
    told = []
    if readings.has("p3.cpu_us", CORES):
        busy = RATE * readings["p3.cpu_us"] / 1e6 / readings[CORES]
        told.append(
            f"each statement, message and waking of a process is for one execution alone at this rate: "
            f"{_spent('p3', readings)}, which keeps all processors busy for {share(busy)} of the time"
        )
    if readings.has("f1.p50_ms", "f1.p99_ms"):
        told.append(
            f"one hop and one commit by a bare consumer (F1) are at {milliseconds(readings['f1.p50_ms'])} and "
            f"{milliseconds(readings['f1.p99_ms'])}, seen alike; an execution takes two hops and three commits"
        )
    if "hop.quorum.idle_ms" in readings:
        told.append(f"a hop through an idle quorum queue alone takes {milliseconds(readings['hop.quorum.idle_ms'])}")
    if "p4.limit1.bare_quorum" in readings:
        bare = WORK_MS / readings["p4.limit1.bare_quorum"] - WORK_MS
        told.append(f"two hops and three commits between two bare consumers take {milliseconds(bare)} (P4, limit 1)")
    return "; ".join(told) or "the floor was not measured in this run"


def reading_limit(readings: Readings) -> str:
    """Say what a reading of a batch's progress needs, and what it waits for."""
    told = _spent("p7", readings)
    busy = readings["p7.per_second"] * readings["p7.cpu_us"] / 1e6 / readings[CORES]
    told = f"{told}, so the batch keeps {share(busy)} of all processors busy, and a reading waits for one of them"
    if not readings.has("p7.served_p50_ms", "p7.read_p95_ms"):
        return told
    return (
        f"{told}: in the database itself it takes {milliseconds(readings['p7.served_p50_ms'])} in the median, as the "
        f"client sees it {milliseconds(readings['p7.read_p50_ms'])}, and {milliseconds(readings['p7.read_p95_ms'])} or "
        "less in 19 of 20 cases"
    )


def hand_off_limit(limit: int) -> Text:
    """Say what is left of the ideal when nothing is done but what cannot be left out."""
    name = f"p4.limit{limit}"

    def text(readings: Readings) -> str:
        told = (
            f"a baton passed between two bare consumers, two hops and three commits and nothing else, reaches "
            f"{share(readings[f'{name}.bare_quorum'])} over quorum queues and "
            f"{share(readings[f'{name}.bare_classic'])} over classic queues with transient messages, which no durable "
            "product can use"
        )
        if readings.has("hop.quorum.idle_ms", "hop.classic.idle_ms"):
            told += (
                f"; a single hop after a pause of 20 ms takes {milliseconds(readings['hop.quorum.idle_ms'])} and "
                f"{milliseconds(readings['hop.classic.idle_ms'])}, straight after another "
                f"{milliseconds(readings['hop.quorum.busy_ms'])} and {milliseconds(readings['hop.classic.busy_ms'])}"
            )
        return (
            f"{told}; of the product's round of "
            f"{milliseconds(sum(readings[f'{name}.{part}'] for part in ('release_ms', 'start_ms', 'work_ms')))}, "
            f"{milliseconds(readings[f'{name}.release_ms'])} go from the end to the next admission, "
            f"{milliseconds(readings[f'{name}.start_ms'])} from there to the claim and "
            f"{milliseconds(readings[f'{name}.work_ms'])} from there to the end, 20 ms of which are the work"
        )

    return text
