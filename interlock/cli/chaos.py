"""`interlock chaos`: faults on a running deployment under load, and a verdict in figures."""

from __future__ import annotations

import asyncio
import secrets
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from chaos import runner
from chaos.figures import MEANING, document, total
from interlock.cli import output
from interlock.cli.session import STATE, Json, database_url, settings_of
from interlock.contract.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Coroutine


def run_chaos(  # noqa: PLR0913 - the options of a command
    ctx: typer.Context,
    *,
    scenario: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this one; may be repeated.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Repeat a run that said this number.")] = None,
    executions: Annotated[int, typer.Option(min=1, metavar="N", help="How many in each scenario.")] = runner.EXECUTIONS,
    seconds: Annotated[float, typer.Option(min=1, metavar="N", help="How long each fault goes on.")] = runner.SECONDS,
    against: Annotated[bool, typer.Option("--against", help="On the deployment of the settings, harmlessly.")] = False,
    naive: Annotated[
        bool, typer.Option("--naive", help="Show what the same does to the flow that Interlock replaces.")
    ] = False,
    list_scenarios: Annotated[bool, typer.Option("--list", help="Show the scenarios and do nothing.")] = False,
    json: Json = False,
) -> int:
    """Break things under load and count what came of it. Fails when a figure is not as it must be.

    Without --against, everything happens on private servers, which are gone afterwards.
    """
    if list_scenarios:
        _list()
        return 0
    drawn = secrets.randbelow(1_000_000) if seed is None else seed
    options = runner.Options(
        names=tuple(scenario or ()), seed=drawn, executions=executions, seconds=seconds, naive=naive
    )
    output.say(f"seed {drawn}")
    try:
        outcome = asyncio.run(_until_told(_work(ctx, options, against=against)))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    _print(outcome)
    if outcome.logs is not None:
        output.line(f"the daemons' logs are kept in {outcome.logs}; `--seed {drawn}` asks for the same again")
    if json:
        output.json_line(document(outcome.verdicts, drawn, outcome.naive))
    return int(not all(verdict.good for verdict in outcome.verdicts))


def _work(ctx: typer.Context, options: runner.Options, *, against: bool) -> Coroutine[object, object, runner.Outcome]:
    settings = settings_of(ctx)
    if not against:
        return runner.on_private_stack(options, settings.state or STATE)
    if settings.amqp_url is None:
        raise Misconfigured("INTERLOCK_AMQP_URL: not set; --against needs the broker of your deployment")
    output.say(
        "a pool, actions, keys and three workers of its own are made in your deployment, and only those are disturbed"
    )
    return runner.beside(options, database_url(ctx), settings.amqp_url.get_secret_value(), settings.prefix)


async def _until_told(work: Coroutine[object, object, runner.Outcome]) -> runner.Outcome:
    """Let SIGTERM end it as Ctrl-C does: with everything taken down."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _list() -> None:
    rows = [(each.name, "yes" if each.harmless else "", each.sentence) for each in runner.SCENARIOS.values()]
    output.table(("SCENARIO", "AGAINST", "FAULT"), rows)


def _print(outcome: runner.Outcome) -> None:
    rows: list[tuple[object, ...]] = []
    for verdict in outcome.verdicts:
        word = "skipped" if verdict.skipped else "good" if verdict.good else "NOT GOOD"
        rows.append((verdict.name, *verdict.figures.as_dict().values(), word))
    rows.append(("total", *total(outcome.verdicts).as_dict().values(), ""))
    rows += [(verdict.name, *verdict.figures.as_dict().values(), "for comparison") for verdict in outcome.naive]
    output.table(("SCENARIO", *(name.upper() for name in MEANING), "VERDICT"), rows)
    for verdict in outcome.verdicts:
        for line in (*verdict.broken, *verdict.complaints, *([verdict.skipped] if verdict.skipped else [])):
            output.line(f"{verdict.name}: {line}")
