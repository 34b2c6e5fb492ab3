"""The text of settings: INTERLOCK_* variables and, below them, a file of the same KEY=VALUE lines.

The only reader of the environment for settings; what a value must be is for `settings` to judge. A name nobody knows is
told, and so is a secret that is given twice. Standard library only: a guardian reads with it and stays small.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from interlock.contract.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX: Final = "INTERLOCK_"
SECRETS: Final = frozenset({"INTERLOCK_DATABASE_URL", "INTERLOCK_AMQP_URL"})
KNOWN: Final = SECRETS | {
    "INTERLOCK_ACTIONS",
    "INTERLOCK_AMQP_URL_FILE",
    "INTERLOCK_CONCURRENCY",
    "INTERLOCK_CONTAINMENT",
    "INTERLOCK_DATABASE_URL_FILE",
    "INTERLOCK_DRAIN",
    "INTERLOCK_FAULTS",
    "INTERLOCK_FUNCTIONS",
    "INTERLOCK_GUARDIAN",
    "INTERLOCK_HTTP",
    "INTERLOCK_HTTP_ALLOW",
    "INTERLOCK_LEASE",
    "INTERLOCK_LOG",
    "INTERLOCK_LOG_LEVEL",
    "INTERLOCK_POOL",
    "INTERLOCK_PREFIX",
    "INTERLOCK_REAPER",
    "INTERLOCK_RECONCILE",
    "INTERLOCK_RENEW",
    "INTERLOCK_STATE",
    "INTERLOCK_SWEEP",
    "INTERLOCK_TIMERS",
}
"""Every variable any part of Interlock reads. All parts accept all of them: one file may serve a whole machine."""


class Given(NamedTuple):
    """What was given: values by variable, secrets read from their files, and one line for each problem."""

    values: dict[str, str]
    problems: list[str]


def read(config: Path | None = None, environ: Mapping[str, str] | None = None) -> Given:
    """Read the environment and, below it, the file `config` (what systemd calls an EnvironmentFile)."""
    given = os.environ if environ is None else environ
    problems: list[str] = []
    filed = _read_file(config, problems) if config else {}
    ours = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    for origin, names in (("the environment", ours), (str(config), filed)):
        problems += [_unknown(name, origin) for name in names if name not in KNOWN]
    values = _with_secrets_from_files(filed, problems) | _with_secrets_from_files(ours, problems)
    return Given(values, problems)


def _read_file(path: Path, problems: list[str]) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"--config {path}: cannot be read: {_reason(error)}")
        return {}
    found: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch(rf"{PREFIX}[A-Z_]+", name.strip()):
            problems.append(f"{path}:{number}: expected INTERLOCK_NAME=value (example: INTERLOCK_CONCURRENCY=32)")
            continue
        found[name.strip()] = _unquoted(value.strip())
    return found


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "I/O error" if isinstance(error, OSError) else "it is not UTF-8 text"


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _unknown(name: str, origin: str) -> str:
    # Without the prefix, which alone would make any two names look alike.
    near = nearest(name.removeprefix(PREFIX), (known.removeprefix(PREFIX) for known in KNOWN))
    hint = f"did you mean {PREFIX}{near}?" if near else f"known are {', '.join(sorted(KNOWN))}"
    return f"{name}: unknown, found in {origin}; {hint}"


def _with_secrets_from_files(given: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    """Resolve NAME_FILE into NAME; an empty value is as good as none. One source gives a secret in one way only."""
    values = {name: value for name, value in given.items() if value}
    for name in sorted(SECRETS):
        file = values.pop(f"{name}_FILE", None)
        if file is None:
            continue
        if name in values:
            problems.append(f"{name}: given twice, also as {name}_FILE; keep one of the two")
            continue
        try:
            values[name] = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{name}_FILE: {file} cannot be read: {_reason(error)}")
    return values
