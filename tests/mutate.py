"""`./dev mutants`: remove each guard in turn, in a copy of the tree, and see the test that is named for it fail.

A mutant is caught only by a test that fails: one that cannot be collected or set up proves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, time
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from tests.guards import GUARDS
from tests.mutants import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.mutants import Mutant

ROOT: Final = Path(__file__).parent.parent
LEFT_OUT: Final = shutil.ignore_patterns(".run", ".git", "__pycache__", ".*_cache", ".hypothesis")
SECONDS: Final = 180
COPIES: Final = 2
TESTS_FAILED: Final = 1
CAUGHT: Final = "caught"
SURVIVED: Final = "SURVIVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """One guard taken away: in `file`, `old` becomes `new`; `caught_by` is the node id of the test that must fail.

    `within` narrows it to the function of this name, where a file has several that look alike.
    """

    name: str
    file: str
    old: str
    new: str
    caught_by: str
    within: str = ""

    @property
    def where(self) -> str:
        """Name the place for a reader."""
        return f"{self.file}: {self.within}" if self.within else self.file

    def applied(self, source: str) -> str:
        """Return the source without the guard. Raises ValueError unless it is there exactly once."""
        start, end = _span(source, self.within) if self.within else (0, len(source))
        found = source[start:end].count(self.old)
        if found != 1:
            raise ValueError(f"the guard is there {found} times: change the entry with its source")
        return source[:start] + source[start:end].replace(self.old, self.new) + source[end:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of one mutant: `caught`, or what is wrong."""

    guard: str
    where: str
    caught_by: str
    verdict: str
    seconds: float


def breaches() -> list[Breach]:
    """Return every guard of both tables: database functions, and everything else by file."""
    of_functions = [_of_function(name, mutant) for name, mutant in MUTANTS.items()]
    return [*of_functions, *(Breach(name=name, **guard._asdict()) for name, guard in GUARDS.items())]


def _of_function(name: str, mutant: Mutant) -> Breach:
    module, _, test = mutant.caught_by.partition(":")
    return Breach(
        name=name,
        file=_home(mutant.function),
        old=mutant.old,
        new=mutant.new,
        caught_by=f"tests/integration/{module}.py::{test}",
        within=mutant.function,
    )


def _home(function: str) -> str:
    """Return the migration that makes a function."""
    for path in sorted((ROOT / "migrations").glob("*.sql")):
        if f"CREATE FUNCTION {function}(" in path.read_text(encoding="utf-8"):
            return str(path.relative_to(ROOT))
    raise LookupError(f"no migration makes {function}")


def _span(source: str, function: str) -> tuple[int, int]:
    """Return where a database function begins and ends. Raises ValueError if there is none."""
    start = source.find(f"CREATE FUNCTION {function}(")
    end = source.find("$$;", source.find("$$", start) + 2)
    if start < 0 or end < 0:
        raise ValueError(f"no function {function} here: change the entry with its source")
    return start, end


class Copy:
    """A copy of the tree in which guards may be taken away, one at a time."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
        self._folder = folder
        self._report = folder / "report.xml"
        self._env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONPYCACHEPREFIX": str(folder / ".bytecode")}
        self._written = int(time())

    def judge(self, breach: Breach) -> str:
        """Take a guard away, run its test, put it back; return the verdict."""
        path = self._folder / breach.file
        sound = path.read_text(encoding="utf-8")
        try:
            broken = breach.applied(sound)
        except ValueError as error:
            return str(error)
        self._write(path, broken)
        try:
            return self._verdict([breach.caught_by])
        finally:
            self._write(path, sound)

    def _write(self, path: Path, source: str) -> None:
        """Write a file that is compiled anew: compiled modules are known by the second that their source is of."""
        path.write_text(source, encoding="utf-8")
        self._written += 1
        os.utime(path, (self._written, self._written))

    def unsound(self, tests: Iterable[str]) -> str:
        """Run these tests as they are; return what is wrong with them, or nothing."""
        verdict = self._verdict(sorted(set(tests)))
        if verdict == CAUGHT:
            cases = ET.parse(self._report).iter("testcase")  # noqa: S314 - pytest's own report
            failed = [case.get("name") for case in cases if case.find("failure") is not None]
            verdict = f"{failed} fails"
        return "" if verdict == SURVIVED else f"before any guard is gone: {verdict}"

    def _verdict(self, tests: Sequence[str]) -> str:
        self._report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--junitxml={self._report}"]
        try:
            done = subprocess.run(
                [*command, *tests],
                cwd=self._folder,
                env=self._env,
                capture_output=True,
                text=True,
                timeout=SECONDS * max(1, len(tests) // 4),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "the test did not end"
        if done.returncode not in (0, TESTS_FAILED) or not self._report.exists():
            return f"pytest ended with {done.returncode}: {_last_line(done.stdout or done.stderr)}"
        return verdict_of(ET.parse(self._report).getroot())  # noqa: S314 - pytest's own report


def verdict_of(report: ET.Element) -> str:
    """Read pytest's report: a test that failed, or an audit behind it that did, has caught the mutant."""
    cases = list(report.iter("testcase"))
    if any(case.find("failure") is not None for case in cases):
        return CAUGHT
    errors = [error.get("message", "") for case in cases for error in case.findall("error")]
    if any(message.startswith("failed on teardown") for message in errors):
        return CAUGHT
    if errors:
        return f"the test could not be run: {_last_line(errors[0])}"
    ran = [case for case in cases if case.find("skipped") is None]
    return SURVIVED if ran else "the test was skipped"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"


def run(chosen: Sequence[Breach]) -> list[Finding]:
    """Judge each in a copy that nobody else changes meanwhile, telling them in order."""
    findings = []
    with (
        tempfile.TemporaryDirectory(prefix="interlock-mutants-") as name,
        ThreadPoolExecutor(COPIES) as threads,
    ):
        copies = [Copy(Path(name) / str(number)) for number in range(COPIES)]
        _say(f"{len(chosen)} guards; first their tests, with every guard in its place")
        wrong = copies[0].unsound(breach.caught_by for breach in chosen)
        if wrong:
            sys.exit(f"mutants: {wrong}")
        free: SimpleQueue[Copy] = SimpleQueue()
        for copy in copies:
            free.put(copy)
        for finding in threads.map(lambda breach: _found(free, breach), chosen):
            findings.append(finding)
            _say(f"{len(findings)}/{len(chosen)} {finding.verdict}: {finding.guard}")
    return findings


def _found(free: SimpleQueue[Copy], breach: Breach) -> Finding:
    copy = free.get()
    began = monotonic()
    try:
        verdict = copy.judge(breach)
    finally:
        free.put(copy)
    seconds = round(monotonic() - began, 1)
    return Finding(guard=breach.name, where=breach.where, caught_by=breach.caught_by, verdict=verdict, seconds=seconds)


def table(findings: Sequence[Finding]) -> str:
    """Return the findings as text in columns."""
    rows = [("GUARD TAKEN AWAY", "WHERE", "CAUGHT BY", "VERDICT")]
    rows += [(each.guard, each.where, each.caught_by.rpartition("::")[2], each.verdict) for each in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join([*(row[n].ljust(widths[n]) for n in range(3)), row[3]]) for row in rows)


def document(findings: Sequence[Finding]) -> Mapping[str, object]:
    """Return the findings for a program."""
    survived = sum(finding.verdict != CAUGHT for finding in findings)
    return {"mutants": len(findings), "not_caught": survived, "findings": [asdict(each) for each in findings]}


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> int:
    """Judge those whose name, place or test contains what `--only` says; 1 if one was not caught."""
    parser = argparse.ArgumentParser(prog="./dev mutants", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", default="", help="those with this in their name, place or test")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    arguments = parser.parse_args()
    chosen = [each for each in breaches() if arguments.only in f"{each.name} {each.where} {each.caught_by}"]
    if not chosen:
        sys.exit(f"mutants: nothing has {arguments.only!r} in its name, place or test")
    findings = run(chosen)
    print(json.dumps(document(findings)) if arguments.json else table(findings))  # noqa: T201 - the result
    return int(any(finding.verdict != CAUGHT for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
