"""`interlock doctor`: the invariants, held against the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from interlock.cli import output
from interlock.cli.session import Json, with_client

if TYPE_CHECKING:
    from interlock.client import Client
    from interlock.client.doctor import Examination, Verdict

LONGEST_SECONDS: Final = 600.0


def doctor(
    ctx: typer.Context,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Fail for findings too.")] = False,
    json: Json = False,
) -> int:
    """Hold the database against the invariants, on one snapshot. Fails if a row breaks one, and shows it.

    A finding breaks no invariant: something waits for a person.
    """

    async def work(client: Client) -> Examination:
        return await client.examine()

    found = with_client(ctx, work, statement_seconds=LONGEST_SECONDS)
    if json:
        output.document({"violations": found.violations, "invariants": found.invariants, "findings": found.findings})
    else:
        _print(found)
    return int(found.violations > 0 or (strict and any(finding.count for finding in found.findings)))


def _print(found: Examination) -> None:
    for verdict in found.invariants:
        _verdict(verdict, "ok  " if not verdict.count else "FAIL", f"{verdict.invariant} {verdict.sentence}")
    for verdict in found.findings:
        if verdict.count:
            _verdict(verdict, "note", verdict.sentence)
    notes = sum(1 for verdict in found.findings if verdict.count)
    output.line(f"{found.violations} violations, {notes} findings")


def _verdict(verdict: Verdict, mark: str, sentence: str) -> None:
    output.line(f"{mark}  {sentence}" + (f": {verdict.count}" if verdict.count else ""))
    for row in verdict.rows:
        output.line(f"        {row.subject}  {row.detail}")
    if verdict.count > len(verdict.rows):
        output.line(f"        and {verdict.count - len(verdict.rows)} more")
