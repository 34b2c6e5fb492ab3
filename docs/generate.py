# ruff: noqa: INP001 - run by its path, or imported by its test
"""Writes those parts of the pages that are data in the code: moves, names on the broker, the checks of `doctor`.

`python docs/generate.py` rewrites the parts between their marks; a test fails when a page has drifted from the code.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from interlock.client.doctor import CHECKS, FINDINGS, MIGRATIONS
from interlock.contract.faults import POINTS
from interlock.contract.status import OPEN, TERMINAL, TRANSITIONS, Owner, Status, Subject, Transition
from interlock.contract.topology import Topology, permissions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FOLDER: Final = Path(__file__).parent
PART: Final = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
ORDER: Final = (None, *Status)
UNUSED: Final = "legal, but nothing makes this move today"
_EXECUTOR, _WORKER = Owner.EXECUTOR, Owner.WORKER

Edge = tuple[Status | None, Status, Owner]
WHEN: Final[dict[Edge, str]] = {
    (None, Status.REQUESTED, _EXECUTOR): "accepted; it waits for a slot, for room in its pool or for its time",
    (None, Status.SCHEDULED, _EXECUTOR): "accepted, and there was room at once",
    (None, Status.FAILED, _EXECUTOR): "refused; the row holds the reason",
    (None, Status.CANCELLED, _EXECUTOR): "a cancel had come before the request",
    (Status.REQUESTED, Status.SCHEDULED, _EXECUTOR): "admitted: all its keys and its pool have room",
    (Status.REQUESTED, Status.CANCELLED, _EXECUTOR): "cancelled while it waited",
    (Status.REQUESTED, Status.TIMED_OUT, _EXECUTOR): "its queue timeout or its deadline passed",
    (Status.REQUESTED, Status.FAILED, _EXECUTOR): UNUSED,
    (Status.SCHEDULED, Status.REQUESTED, _EXECUTOR): "dispatched a minute ago to a pool that has no live worker",
    (Status.SCHEDULED, Status.CANCELLED, _EXECUTOR): "cancelled before a worker claimed it",
    (Status.SCHEDULED, Status.TIMED_OUT, _EXECUTOR): "its deadline passed before a worker claimed it",
    (Status.SCHEDULED, Status.FAILED, _EXECUTOR): UNUSED,
    (Status.SCHEDULED, Status.RUNNING, _WORKER): "claimed",
    (Status.RUNNING, Status.COMPLETED, _WORKER): "it succeeded",
    (Status.RUNNING, Status.PARTIAL, _WORKER): "it succeeded in part, and said so",
    (Status.RUNNING, Status.FAILED, _WORKER): "it failed, and no attempt is left",
    (Status.RUNNING, Status.TIMED_OUT, _WORKER): "it ran longer than its run timeout, and no attempt is left",
    (Status.RUNNING, Status.SKIPPED, _WORKER): "it chose not to run, and said why",
    (Status.RUNNING, Status.REQUESTED, _WORKER): "the attempt failed and another is due, or the worker handed it back",
    (Status.RUNNING, Status.REQUESTED, _EXECUTOR): "the lease of its worker ended",
    (Status.RUNNING, Status.ABANDONED, _EXECUTOR): "the lease of its worker ended, for the third time",
    (Status.RUNNING, Status.CANCELLING, _EXECUTOR): "cancelled, or its deadline passed; its worker is told",
    (Status.CANCELLING, Status.CANCELLED, _WORKER): "it stopped",
    (Status.CANCELLING, Status.TIMED_OUT, _WORKER): "it stopped, and a deadline had asked for it",
    (Status.CANCELLING, Status.CANCELLED, _EXECUTOR): "the lease of its worker ended",
    (Status.CANCELLING, Status.TIMED_OUT, _EXECUTOR): "the lease of its worker ended, and a deadline had asked for it",
    (Status.CANCELLING, Status.ABANDONED, _WORKER): UNUSED,
    **{
        (Status.CANCELLING, status, _WORKER): "it ended before it could be stopped"
        for status in (Status.COMPLETED, Status.PARTIAL, Status.FAILED, Status.SKIPPED)
    },
}
"""Why each move of a leaf is made."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *(list(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def code(text: str) -> str:
    """Return the text as code in a table's cell; an empty one as a dash."""
    escaped = text.replace("|", "\\|")
    return f"`{escaped}`" if text else "\N{EN DASH}"


def _sorted(subject: Subject) -> list[Transition]:
    moves = [move for move in TRANSITIONS if move.subject is subject]
    return sorted(moves, key=lambda m: (ORDER.index(m.source), m.owner, ORDER.index(m.target)))


def leaf_diagram() -> str:
    """Draw the moves of a leaf; all terminal statuses are one state, so that the lines can be told apart."""
    arrows: dict[tuple[str, str, Owner], list[str]] = {}
    for move in _sorted(Subject.LEAF):
        target = "ended" if move.target in TERMINAL else str(move.target)
        arrows.setdefault((move.source or "[*]", target, move.owner), []).append(move.target)
    lines = [
        f"    {source} --> {target}: {owner}" + (f" ({', '.join(ends)})" if target == "ended" else "")
        for (source, target, owner), ends in arrows.items()
    ]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "    ended --> [*]", "```", ""])


def leaf_moves() -> str:
    """List the moves of a leaf, those with one reason in one row."""
    rows: dict[tuple[str, Owner, str], list[str]] = {}
    for move in _sorted(Subject.LEAF):
        when = WHEN[move.source, move.target, move.owner]
        rows.setdefault((move.source or "", move.owner, when), []).append(code(move.target))
    return table(
        ("from", "to", "owner", "when"),
        ((code(source), ", ".join(targets), owner, when) for (source, owner, when), targets in rows.items()),
    )


def parent_moves() -> str:
    """List the moves of a parent."""
    rows: dict[str, list[str]] = {}
    for move in _sorted(Subject.PARENT):
        source = "any terminal" if move.source in TERMINAL else code(move.source or "")
        rows.setdefault(source, []).append(code(move.target))
    return table(("from", "to"), ((source, ", ".join(dict.fromkeys(to))) for source, to in rows.items()))


def status_list() -> str:
    """Name the open and the terminal statuses."""
    named = [", ".join(code(status) for status in Status if status in group) for group in (OPEN, TERMINAL)]
    return f"Open: {named[0]}.\nTerminal: {named[1]}.\n"


def exchanges() -> str:
    """List the exchanges and who may write to them."""
    rows = (
        (code(each.name), each.type, ", ".join(sorted(each.writers)) or "the broker") for each in Topology().exchanges
    )
    return table(("exchange", "type", "may write"), rows)


def queues() -> str:
    """List the queues with their routes and arguments."""
    topology = Topology()
    rows = []
    for queue in (*topology.queues, topology.pool_queue("POOL"), topology.control_queue("PROCESS")):
        bindings = (*topology.bindings, topology.pool_binding("POOL"), topology.control_binding("PROCESS"))
        routes = [f"{code(b.exchange)} {code(b.routing_key)}" for b in bindings if b.queue == queue.name]
        told = [code(f"{name}={value}") for name, value in queue.arguments.items()]
        rows.append((code(queue.name), "<br>".join(routes), "<br>".join(told) or "exclusive, auto-delete"))
    return table(("queue", "bound to (exchange, key)", "arguments"), rows)


def rights() -> str:
    """List the rights of each user."""
    rows = ((role, code(p.configure), code(p.write), code(p.read)) for role, p in permissions().items())
    return table(("user", "configure", "write", "read"), rows)


def checks() -> str:
    """List what `doctor` looks at."""
    looked_at = (*CHECKS, *FINDINGS, MIGRATIONS)
    return table(("", "what should hold"), ((check.invariant or "finding", check.sentence) for check in looked_at))


def fault_points() -> str:
    """List the steps at which a process may be made to fail."""
    rows = ((code(point.name), point.process, point.happened, point.crash) for point in POINTS)
    return table(("point", "process", "what has just happened", "after a crash here"), rows)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "checks": checks,
    "exchanges": exchanges,
    "fault-points": fault_points,
    "leaf-diagram": leaf_diagram,
    "leaf-moves": leaf_moves,
    "parent-moves": parent_moves,
    "queues": queues,
    "rights": rights,
    "statuses": status_list,
}


def render(page: str) -> str:
    """Return the page with its generated parts as they should be."""
    return PART.sub(lambda found: f"{found[1]}{PARTS[found['name']]()}{found[3]}", page)


def pages() -> list[Path]:
    """Return every page that has a generated part."""
    return [page for page in sorted(FOLDER.glob("*.md")) if PART.search(page.read_text(encoding="utf-8"))]


def main() -> None:
    """Rewrite the pages."""
    for page in pages():
        page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
