"""`interlock batch restart --replan`: the plan is made anew, shown as a difference, and applied if that is wanted."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import typer

from interlock.cli import output
from interlock.cli.batch import find
from interlock.cli.consent import agreed
from interlock.cli.session import with_client
from interlock.client.batches import NotRestartable
from interlock.client.ids import short
from interlock.contract.status import Status

if TYPE_CHECKING:
    from uuid import UUID

    from interlock.client import Client
    from interlock.client.batch_records import BatchState, Choice, Difference, KeyShare, Replanned

LONGEST_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was typed."""

    batch: str
    choice: Choice
    preview: str | None
    yes: bool
    dry_run: bool
    json: bool


def restart_anew(ctx: typer.Context, wish: Wish) -> int:
    """Plan a batch anew, show the difference, and restart it so when that is agreed to."""
    state, found = with_client(ctx, lambda client: _look(client, wish), statement_seconds=LONGEST_SECONDS)
    if not wish.json:
        _show(state, found)
    nothing = not found.made and not found.gone.partitions
    if nothing or wish.dry_run:
        done = None
    elif not wish.yes and not sys.stdin.isatty():
        output.document(_told(state, found, None, wish)) if wish.json else None
        raise typer.BadParameter(
            f"nobody is there to answer, and nothing was changed; to do this: {_way_on(wish, found)}"
        )
    elif agreed(f"Restart {short(state.id)} with this plan?", yes=wish.yes):
        state, done = with_client(
            ctx, lambda client: _apply(client, state.id, found.preview, wish.choice), statement_seconds=LONGEST_SECONDS
        )
    else:
        output.say(f"nothing was changed; to do this: {_way_on(wish, found)}")
        return 1
    if wish.json:
        output.document(_told(state, found, done, wish))
    elif nothing:
        output.line("nothing to do: it is the same plan")
    elif done is None:
        output.say(f"nothing was changed; to do this: {_way_on(wish, found)}")
    else:
        output.line(f"{short(state.id)} is {state.status} again in epoch {state.epoch}: {_deeds(done)}")
        output.say(f"follow it: interlock batch watch {short(state.id)}")
    return 0


async def _look(client: Client, wish: Wish) -> tuple[BatchState, Difference]:
    identity = await find(client, wish.batch)
    preview = await (_planned(client, identity) if wish.preview is None else client.find(wish.preview))
    found = await client.batches.difference(identity, preview, wish.choice)
    if found.unknown:
        raise NotRestartable(f"no partition of batch {identity} is called {', '.join(map(repr, found.unknown))}")
    return await client.batches.get(identity), found


async def _planned(client: Client, identity: UUID) -> UUID:
    """Let a worker make the plan; returns the execution that did. Raises NotRestartable when it cannot be made."""
    preview = await client.batches.plan_anew(identity)
    output.say(
        f"{short(identity)} is being planned anew, which changes nothing of it: interlock explain {short(preview)}"
    )
    await client.wait([preview])
    ended = await client.get(preview)
    if ended.status is not Status.COMPLETED:
        error = ended.error or {"class": ended.status, "message": ended.cancel_reason}
        why = f"{error.get('class')}: {error.get('message')}"
        raise NotRestartable(f"planning batch {identity} anew has {ended.status}, nothing was changed: {why}")
    return preview


async def _apply(client: Client, identity: UUID, preview: UUID, choice: Choice) -> tuple[BatchState, Replanned]:
    done = await client.batches.replan(identity, preview, choice)
    return await client.batches.get(identity), done


def _show(state: BatchState, found: Difference) -> None:
    rows = [
        (name, share.partitions, _keys(share))
        for name, share in (
            ("new", found.new),
            ("gone", found.gone),
            ("the same", found.same),
            ("  made again", found.again),
            ("  other params", found.changed),
        )
        if share.partitions or not name.startswith(" ")
    ]
    output.table(("plan", "partitions", "first keys"), rows)
    after = found.new.partitions + found.same.partitions
    output.line(f"{state.made:,} partitions now, {after:,} with this plan, {found.made:,} of them to make")


def _keys(share: KeyShare) -> str:
    return ", ".join(share.keys) + (", …" if share.partitions > len(share.keys) else "")


def _deeds(done: Replanned) -> str:
    return f"{done.made:,} to make, {done.gone:,} gone"


def _way_on(wish: Wish, found: Difference) -> str:
    plan = f"--replan --preview {short(found.preview)}"
    return f"`interlock batch restart {shlex.quote(wish.batch)} {plan}{_only(wish.choice)} --yes`"


def _only(choice: Choice) -> str:
    words = [str(each) for each in choice.statuses or ()]
    words += [f"key={key}" for key in choice.keys or ()]
    words += [f"error={error}" for error in choice.errors or ()]
    return "".join(f" --only {shlex.quote(word)}" for word in words)


def _told(state: BatchState, found: Difference, done: Replanned | None, wish: Wish) -> dict[str, object]:
    return {
        "id": state.id,
        "dry_run": wish.dry_run,
        "epoch": state.epoch,
        "difference": found,
        "restarted": 0 if done is None else done.made,
        "gone": 0 if done is None else done.gone,
        "applied": done is not None,
    }
