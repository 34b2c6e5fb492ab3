"""`interlock actions`: definitions in files, and definitions that are registered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.actions.definition import actions_of, disagreements, repeats
from interlock.actions.files import load
from interlock.actions.modules import load_modules
from interlock.cli import output
from interlock.cli.session import Json, places_of_actions, with_client
from interlock.contract.errors import InvalidDefinition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.actions.definition import Definition
    from interlock.client import Client
    from interlock.client.records import Applied, Registered, RegisteredBatch

Folder = Annotated[Path | None, typer.Argument(metavar="[FOLDER]", help="Default: INTERLOCK_ACTIONS.")]
Modules = Annotated[
    list[str] | None,
    typer.Option(
        "--module", "-m", metavar="MODULE", help="Also its decorated functions. Default: INTERLOCK_FUNCTIONS."
    ),
]
_PROBLEM = re.compile(r"(?P<file>.*?):(?P<line>\d+): (?P<message>.*)")


def list_actions(
    ctx: typer.Context,
    *,
    withdrawn: Annotated[bool, typer.Option("--withdrawn", help="Also show withdrawn actions.")] = False,
    json: Json = False,
) -> None:
    """Show the registered actions and batches, and how the keys of actions stand.

    The limit is the live one, of a batch its `max_parallel`; then come who holds a slot and who waits.
    """
    found = [each for each in with_client(ctx, _list) if withdrawn or each.withdrawn_at is None]
    if json:
        output.document(found)
    elif not found:
        output.say("no actions are registered: write one and run `interlock actions apply FOLDER`")
    else:
        output.table(
            ("name", "version", "runs", "pool", "limit", "active", "waiting", ""), [_row(each) for each in found]
        )


async def _list(client: Client) -> list[Registered | RegisteredBatch]:
    return [*await client.actions_list(), *await client.batches_list()]


def _row(each: Registered | RegisteredBatch) -> tuple[object, ...]:
    if each.kind == "batch":
        batch, remark = each.batch, "withdrawn" if each.withdrawn_at else ""
        limit = "none" if batch.max_parallel is None else batch.max_parallel
        return each.name, each.version, f"batch of {batch.run.action}", batch.pool, limit, "", "", remark
    action = each.action
    remark = "withdrawn" if each.withdrawn_at else "paused" if each.paused else ""
    limit = "none" if each.limit is None else each.limit
    return each.name, each.version, action.runner, action.pool, limit, each.active, each.waiting, remark


def _definitions(ctx: typer.Context, folder: Path | None, modules: Sequence[str] | None) -> list[Definition]:
    place, names = places_of_actions(ctx, folder, modules)
    found = [*(load(place) if place else ()), *load_modules(names)]
    if wrong := [*repeats(found), *disagreements(actions_of(found))]:
        raise InvalidDefinition("\n".join(wrong))
    return found


def check(ctx: typer.Context, folder: Folder = None, *, module: Modules = None, json: Json = False) -> int:
    """Check every file of a folder and report all problems as `file:line: message`. Needs no database."""
    try:
        definitions = _definitions(ctx, folder, module)
    except InvalidDefinition as invalid:
        if not json:
            raise
        found = [_PROBLEM.fullmatch(line) for line in str(invalid).splitlines()]
        problems = [{**match.groupdict(), "line": int(match["line"])} for match in found if match]
        output.document({"valid": False, "problems": problems or [{"message": str(invalid)}]})
        return 78
    if json:
        actions = [_described(each) for each in definitions if each.kind == "action"]
        batches = [_described(each) for each in definitions if each.kind == "batch"]
        output.document({"valid": True, "actions": actions, "batches": batches})
    else:
        count = len(definitions)
        output.line(f"{count} {'definition' if count == 1 else 'definitions'} can be used")
    return 0


def _described(definition: Definition) -> dict[str, object]:
    return {"name": definition.content.name, "file": definition.file, "line": definition.line}


def apply(
    ctx: typer.Context,
    folder: Folder = None,
    *,
    module: Modules = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Withdraw registered actions that are not defined here any more.")
    ] = False,
    json: Json = False,
) -> None:
    """Register definitions. What changed gets a new version; what runs goes on with the one it has.

    A live limit changes only when its definition's does.
    """
    definitions = [definition.content for definition in _definitions(ctx, folder, module)]

    async def work(client: Client) -> Applied:
        return await client.apply_actions(definitions, prune=prune)

    applied = with_client(ctx, work)
    if json:
        output.document(
            {
                "added": applied.added,
                "changed": applied.changed,
                "unchanged": applied.unchanged,
                "withdrawn": applied.withdrawn,
                "limits": applied.limits,
            }
        )
        return
    for word in ("added", "changed", "unchanged", "withdrawn"):
        names: tuple[str, ...] = getattr(applied, word)
        if names:
            output.line(f"{word}: {', '.join(names)}")
    for name, limit in applied.limits.items():
        output.line(f"limit of {name}: {'none' if limit is None else limit}")
    if not definitions:
        output.say("nothing is defined there")
