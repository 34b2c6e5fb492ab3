"""`./dev bench`: floors, the product and peers in interleaved rounds on the same servers; ratios first."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from bench import machine, peering
from bench.battery import DEFAULT, LONG, Sizes, play
from bench.limits import CORES, LOOP, OTHERS
from bench.outcome import Outcome
from bench.readings import Readings
from bench.report import disturbed, render
from bench.stage import CONCURRENCY, Stage
from bench.verdicts import verdicts
from interlock.contract.errors import InterlockError
from interlock.local.stack import FILE, Endpoints

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS: Final = 3
EXECUTIONS: Final = 50_000
PARTITIONS: Final = 100_000
FOLDER: Final = Path(__file__).parents[1] / "docs" / "benchmarks"
KEPT: Final = "readings.json"


async def measure(options: argparse.Namespace, wanted: Sequence[str]) -> Outcome:
    """Prepare the servers and the peers, and play all rounds."""
    endpoints = _endpoints()
    sizes = Sizes(
        executions=options.executions,
        partitions=options.partitions,
        finished=options.finished,
        waiting=options.waiting,
        minutes=options.minutes,
        rate=options.rate,
    )
    outcome = Outcome(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        facts=await machine.facts(endpoints),
        settings={
            "Rounds": "0",
            "Executions": f"{options.executions:,} in P1, P2, P5 and P11, in messages of 500",
            "Latency": f"{sizes.loop.measured} at {sizes.loop.rate:g}/s after {sizes.loop.warmup} to warm up; half as "
            "many for the floors",
            "Hand-off": f"{sizes.hand_off_seconds:g} s of work at best, for each limit",
            "Worker": f"INTERLOCK_CONCURRENCY={CONCURRENCY} (P6: 32; P11: {CONCURRENCY // 2} each), all else at its "
            "default but INTERLOCK_LOG_LEVEL=warning",
        },
        readings=Readings({CORES: [float(os.cpu_count() or 1)]}),
    )
    if options.peers:
        await peering.prepare()
    with tempfile.TemporaryDirectory() as logs:
        stage = Stage(endpoints=endpoints, logs=Path(logs))
        mine = await machine.ours(endpoints)
        others = machine.Others(mine)
        async with stage.prepared():
            async for number in play(stage, outcome, sizes, wanted, options.rounds, peers=options.peers):
                outcome.settings["Rounds"] = f"{number}, interleaved"
                outcome.readings.add({OTHERS: others.share(), LOOP: machine.loop_seconds()})
                others = machine.Others(mine)
                if options.report:
                    _write(outcome)  # each time, so that a run that is cut short is not lost
        if options.add:
            report = Outcome.from_json((FOLDER / KEPT).read_text(encoding="utf-8"))
            report.add(outcome)
            _write(report)
    return outcome


def _endpoints() -> Endpoints:
    state = Path(os.environ.get("INTERLOCK_STATE", ""))
    if (state / FILE).exists():
        return Endpoints.read(state)
    given = [os.environ.get(name) for name in ("INTERLOCK_DATABASE_URL", "INTERLOCK_AMQP_URL")]
    if not all(given):
        sys.exit("bench: run it as `./dev bench`, which starts the servers")
    return Endpoints.of_one_user(given[0] or "", given[1] or "")


def _figures(text: str) -> list[str]:
    known = {figure.lower(): figure for figure in (*DEFAULT, *LONG)}
    names = [name.strip().lower() for name in text.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known.values())}")
    return [known[name] for name in names]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument(
        "--only", type=_figures, metavar="P1,P3,…", default=list(DEFAULT), help=f"of {', '.join((*DEFAULT, *LONG))}"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--executions", type=int, default=EXECUTIONS, help=f"of P1, default: {EXECUTIONS:,}")
    parser.add_argument("--partitions", type=int, default=PARTITIONS, help=f"of P7, default: {PARTITIONS:,}")
    parser.add_argument("--peers", action="store_true", help="also pgqueuer, taskiq, procrastinate and Celery")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--report", action="store_true", help="write docs/benchmarks/report.md and its plots")
    parser.add_argument("--add", action="store_true", help="write these figures into the report that is there")
    parser.add_argument("--render", action="store_true", help="write the report again from the readings kept with it")
    parser.add_argument("--finished", type=int, default=10_000_000, help="P9: rows of history")
    parser.add_argument("--waiting", type=int, default=1_000_000, help="P9: executions that wait on one key")
    parser.add_argument("--minutes", type=float, default=60.0, help="P10-hour: how long")
    parser.add_argument("--rate", type=int, default=500, help="P10-hour: executions per second")
    return parser.parse_args()


def _tell(outcome: Outcome) -> None:
    for warning in disturbed(outcome.readings):
        print(warning)  # noqa: T201 - before all that it spoils
    words = {True: "met", False: "NOT MET", None: ""}
    for each in verdicts(outcome.readings):
        line = f"{each.figure:4} {each.found:>10}  target {each.target:<10} {words[each.met]:8} {each.what}"
        print(f"{line}\n{'':36}{each.absolutes}")  # noqa: T201 - the result
    for name, peer in outcome.peers.items():
        print(f"{name}: {', '.join(f'{p} {v}' for p, v in peer.versions.items())}: {peer.settings}")  # noqa: T201
    for name, value in {**outcome.facts, **outcome.settings}.items():
        print(f"{name}: {value}")  # noqa: T201 - on what


def _write(outcome: Outcome) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = {**render(outcome), KEPT: outcome.to_json() + "\n"}
    for plot in FOLDER.glob("*.svg"):
        if plot.name not in files:
            plot.unlink()  # of a figure that was not measured this time
    for name, text in files.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def main() -> None:
    """Parse the options, run, print."""
    options = _options()
    try:
        if options.render:
            outcome = Outcome.from_json((FOLDER / KEPT).read_text(encoding="utf-8"))
        else:
            outcome = uvloop.run(measure(options, options.only))
    except InterlockError as error:
        sys.exit(f"bench: {error}")
    if options.render:
        _write(outcome)
    if options.json:
        print(outcome.to_json())  # noqa: T201 - the result
    else:
        _tell(outcome)


if __name__ == "__main__":
    main()
