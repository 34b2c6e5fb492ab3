"""`interlock`: the table of commands, and what an error becomes. Imports a command's module only to run it.

Exit codes: 0 done, 1 failed, 2 usage, 69 a service cannot be reached, 78 configuration.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperGroup

from interlock import __version__
from interlock.contract.errors import InterlockError, InvalidDefinition, Misconfigured, Transient, Unavailable
from interlock.contract.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FAILED: Final = 1
UNAVAILABLE: Final = 69
MISCONFIGURED: Final = 78


class Leaf(NamedTuple):
    """One command: `module:function`, and its line in the list of commands."""

    target: str
    help: str


class Branch(NamedTuple):
    """A group of commands."""

    help: str
    leaves: Mapping[str, Leaf | Branch]


COMMANDS: Final = Branch(
    "A durable execution daemon whose statuses never lie.",
    {
        "up": Leaf("up:run_up", "Start everything on this machine and stay until Ctrl-C."),
        "demo": Leaf("demo:run_demo", "Run the demonstration and print its proof."),
        "migrate": Leaf("migrate:migrate", "Bring the database schema up to date, or look at it."),
        "broker": Branch(
            "Set up RabbitMQ.",
            {"setup": Leaf("broker:setup", "Declare exchanges, queues and bindings.")},
        ),
        "actions": Branch(
            "Look at definitions and register them.",
            {
                "list": Leaf("actions:list_actions", "Show the registered actions and batches, and their limits."),
                "check": Leaf("actions:check", "Check a folder of definitions; needs no database."),
                "apply": Leaf("actions:apply", "Register a folder of definitions."),
            },
        ),
        "run": Leaf("run:run", "Request executions of an action."),
        "batch": Branch(
            "Run batches, see how far they are, and change them.",
            {
                "run": Leaf("batch:run", "Start a batch."),
                "show": Leaf("batch:show", "Show how far a batch is, and what failed of it."),
                "watch": Leaf("batch:watch", "Follow a batch until it ends."),
                "partitions": Leaf("batch:partitions", "List the partitions of a batch."),
                "restart": Leaf("batch_change:restart", "Make partitions of an ended batch again."),
                "cancel": Leaf("batch_change:cancel", "Cancel a batch and what is open of it."),
                "add": Leaf("batch_change:add", "Add partitions to an open batch."),
                "seal": Leaf("batch_change:seal", "Say that no more partitions come."),
            },
        ),
        "list": Leaf("executions:list_executions", "List executions, newest first."),
        "show": Leaf("executions:show", "Show everything about one execution."),
        "watch": Leaf("follow:watch", "Print the moves of one execution until it ends."),
        "logs": Leaf("follow:logs", "Print the output of one execution."),
        "explain": Leaf("explain:explain", "Say why an execution is where it is."),
        "cancel": Leaf("cancel:cancel", "Cancel executions, by id or by what they have in common."),
        "queues": Branch(
            "Look at concurrency keys and change them.",
            {
                "show": Leaf("queues:show", "Show keys, who holds and waits, and their statistics."),
                "limit": Leaf("queues:limit", "Change the limit, the rate or the cap of a key."),
                "pause": Leaf("queues:pause", "Admit nothing more on a key."),
                "resume": Leaf("queues:resume", "Let a paused key admit again."),
            },
        ),
        "pools": Branch(
            "Look at worker pools and pause them.",
            {
                "show": Leaf("pools:show", "Show worker pools and who waits for them."),
                "pause": Leaf("pools:pause", "Dispatch nothing more to a pool."),
                "resume": Leaf("pools:resume", "Dispatch to a paused pool again."),
            },
        ),
        "poison": Branch(
            "Look at messages that could not be handled.",
            {
                "list": Leaf("poison:list_messages", "List messages that were put aside, newest first."),
                "show": Leaf("poison:show", "Show one message with its body."),
                "replay": Leaf("poison:replay", "Send messages again to where they came from."),
                "drop": Leaf("poison:drop", "Throw messages away."),
            },
        ),
        "workers": Branch(
            "Look at workers and drain them.",
            {
                "list": Leaf("workers:list_workers", "Show the workers that live, and their leases."),
                "drain": Leaf("workers:drain", "Let workers finish what they run, and end."),
            },
        ),
        "doctor": Leaf("doctor:doctor", "Hold the database against the invariants."),
        "chaos": Leaf("chaos:run_chaos", "Break things under load and prove what came of it."),
        "version": Leaf("version:version", "Print the version."),
    },
)


class LazyGroup(TyperGroup):
    """A group that knows its commands by a table; helping with the list of them imports none."""

    branch = COMMANDS

    def list_commands(self, ctx: object) -> list[str]:
        """Name the commands, in the order of the table."""
        del ctx
        return list(self.branch.leaves)

    def get_command(self, ctx: object, cmd_name: str) -> Any:  # noqa: ANN401 - the class is Typer's secret
        """Load one command, or return None."""
        del ctx
        found = self.branch.leaves.get(cmd_name)
        return None if found is None else _loaded(cmd_name, found)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - the class is Typer's secret
        """Find the command that the first argument names; refuse what is not in the table, with the nearest name."""
        if args[0] not in self.branch.leaves and not args[0].startswith("-"):
            hint = did_you_mean(args[0], self.branch.leaves)
            ctx.fail(f"unknown command {args[0]!r}{hint or f'; `{ctx.command_path} --help` lists them'}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: object, formatter: Any) -> None:  # noqa: ANN401 - the class is Typer's secret
        """Write the list of commands from the table alone."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.help) for name, each in self.branch.leaves.items()])


def _loaded(name: str, found: Leaf | Branch) -> Any:  # noqa: ANN401 - as get_command
    if isinstance(found, Branch):
        group = LazyGroup(name=name, help=found.help, no_args_is_help=True, rich_markup_mode=None)
        group.branch = found
        return group
    module, _, function = found.target.partition(":")
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name)(getattr(import_module(f"interlock.cli.{module}"), function))
    return typer.main.get_command(app)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer's callback
    if wanted:
        sys.stdout.write(f"interlock {__version__}\n")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A file of INTERLOCK_NAME=value lines.")] = None,
    version: Annotated[  # noqa: ARG001, FBT002 - handled by its callback; a flag of the command line
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    ctx.obj = config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Errors that are not bugs are told in one line, on standard error."""
    app = typer.Typer(cls=LazyGroup, help=COMMANDS.help, no_args_is_help=True, rich_markup_mode=None)
    app.callback()(_root)
    command = typer.main.get_command(app)
    try:
        outcome = command.main(args=arguments, prog_name="interlock", standalone_mode=False)
    except typer.Abort:
        return 130
    except typer.TyperException as error:
        return _refused(error)
    except InterlockError as error:
        return _told(str(error), _exit_code(error), bare=isinstance(error, InvalidDefinition))
    return outcome if isinstance(outcome, int) else 0


def _exit_code(error: InterlockError) -> int:
    if isinstance(error, Misconfigured):
        return MISCONFIGURED
    return UNAVAILABLE if isinstance(error, Unavailable | Transient) else FAILED


def _refused(error: typer.TyperException) -> int:
    """Write what is wrong with a command line; called without any command, that is the help."""
    message = error.format_message()
    if message.startswith("Usage:"):
        return _told(message, error.exit_code, bare=True)
    context = getattr(error, "ctx", None)
    hint = "" if context is None or "`" in message or "did you mean" in message else f"`{context.command_path} --help`"
    return _told(f"{message.rstrip('.')}; see {hint}" if hint else message, error.exit_code)


def _told(message: str, code: int, *, bare: bool = False) -> int:
    """Write an error, one line per problem; bare lines are left as they are, such as places that editors understand."""
    sys.stderr.write("".join(f"{'' if bare else 'interlock: '}{line}\n" for line in message.splitlines()))
    return code
