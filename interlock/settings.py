"""Settings: the only judge of what the environment says. `environment` reads it, and the file below it.

No secret ever appears in an error or a repr.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from interlock.contract.errors import Misconfigured
from interlock.contract.faults import Fault, read_fault
from interlock.environment import PREFIX, SECRETS, read

if TYPE_CHECKING:
    from collections.abc import Mapping


def _url_of(*schemes: str) -> AfterValidator:
    def check(secret: SecretStr) -> SecretStr:
        parts = urlsplit(secret.get_secret_value())
        if parts.scheme not in schemes:
            wanted = " or ".join(f"{scheme}://" for scheme in schemes)
            msg = f"must be a URL that starts with {wanted}"
            raise ValueError(msg)
        return secret

    return AfterValidator(check)


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):  # noqa: PLR2004 - the last port
        msg = "must be host:port (a port of 0 picks a free one; IPv6 in brackets)"
        raise ValueError(msg)
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        msg = "must have its IPv6 address in brackets, as in [::1]:8480"
        raise ValueError(msg)
    return text


def comma_list(value: object) -> object:
    """Split `a, b` into ("a", "b"); anything but text passes for pydantic to judge."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _faults(value: object) -> object:
    """Read a list of faults; an empty one is none."""
    parts = comma_list(value)
    return tuple(read_fault(part) for part in parts if isinstance(part, str)) if isinstance(parts, tuple) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


DatabaseUrl = Annotated[
    SecretStr, _url_of("postgresql", "postgres"), Field(examples=["postgresql://interlock@localhost/interlock"])
]
AmqpUrl = Annotated[SecretStr, _url_of("amqp", "amqps"), Field(examples=["amqp://interlock@localhost/"])]
Address = Annotated[str, AfterValidator(_address), Field(examples=["127.0.0.1:8480"])]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False, examples=["4"])]
LogFormat = Annotated[Literal["console", "json"], BeforeValidator(_lower), Field(examples=["json"])]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower), Field(examples=["info"])]
Faults = Annotated[tuple[Fault, ...], BeforeValidator(_faults), Field(examples=["finish.committed=crash@3"])]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", examples=["default"])]


class Reporting(BaseModel):
    """How a process speaks: the form of its log lines (None: console on a terminal, JSON elsewhere) and their level.

    And where it is armed to fail, for testing only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    log: LogFormat | None = None
    log_level: LogLevel = "info"
    faults: Faults = ()


class Client(Reporting):
    """What the command line needs. Each command says which of these it cannot do without."""

    database_url: DatabaseUrl | None = None
    amqp_url: AmqpUrl | None = None
    prefix: Name = "interlock"
    actions: Path | None = None
    functions: Annotated[tuple[str, ...], BeforeValidator(comma_list)] = ()
    state: Path | None = None


class Shared(Reporting):
    """What the executor and the worker have in common. Every duration is in seconds."""

    database_url: DatabaseUrl
    amqp_url: AmqpUrl
    http: Address | None = None
    prefix: Name = "interlock"
    lease: Seconds = 25.0
    renew: Seconds = 4.0
    drain: Annotated[float, Field(ge=0, allow_inf_nan=False, examples=["30"])] = 30.0

    @model_validator(mode="after")
    def _renewals_fit_into_the_lease(self) -> Self:
        """Two renewals in a row may fail without the lease being lost."""
        if self.renew * 3 >= self.lease:
            msg = f"INTERLOCK_RENEW: 3 x {self.renew:g} s must be less than INTERLOCK_LEASE, which is {self.lease:g} s"
            raise ValueError(msg)
        return self


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What others set for us: the wish for plain text, systemd's socket and its watchdog period in seconds."""

    no_color: bool
    notify_socket: str | None
    watchdog: float | None


def surroundings(environ: Mapping[str, str] | None = None) -> Surroundings:
    """Read the variables that are not ours. WATCHDOG_PID is not asked: a worker's main process is its guardian."""
    given = os.environ if environ is None else environ
    period = given.get("WATCHDOG_USEC", "")
    return Surroundings(
        no_color=bool(given.get("NO_COLOR")) or given.get("TERM") == "dumb",
        notify_socket=given.get("NOTIFY_SOCKET") or None,
        watchdog=int(period) / 1e6 if period.isdigit() and int(period) > 0 else None,
    )


T = TypeVar("T", bound=BaseModel)


def load(cls: type[T], config: Path | None = None, environ: Mapping[str, str] | None = None) -> T:
    """Read settings of the kind `cls` from the environment and, below it, from the file `config`.

    Raises Misconfigured with one line per problem: which variable, what is wrong with it, an example.
    """
    values, problems = read(config, environ)
    fields = {name: values[PREFIX + name.upper()] for name in cls.model_fields if PREFIX + name.upper() in values}
    try:
        settings = cls.model_validate(fields)
    except ValidationError as invalid:
        told = {problem.partition(":")[0].removesuffix("_FILE") for problem in problems}
        found = [_explained(cls, dict(error), fields) for error in invalid.errors(include_url=False)]
        problems += [line for line in found if line.partition(":")[0] not in told]
    else:
        if not problems:
            return settings
    # The failed validation is not chained: its text would carry the values, secrets among them.
    raise Misconfigured("\n".join(dict.fromkeys(problems))) from None


def _explained(cls: type[BaseModel], error: Mapping[str, object], given: Mapping[str, str]) -> str:
    """One problem as one line. What the user wrote is repeated unless it may be secret."""
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    path = error["loc"]
    if not isinstance(path, tuple) or not path:
        return message
    field = str(path[0])
    variable = PREFIX + field.upper()
    example = f"(example: {variable}={_example(cls, field)})"
    if error["type"] == "missing":
        also = f", or {variable}_FILE" if variable in SECRETS else ""
        return f"{variable}: not set{also} {example}"
    got = "" if variable in SECRETS or field not in given else f", got {given[field]!r}"
    return f"{variable}: {message}{got} {example}"


def _example(cls: type[BaseModel], field: str) -> str:
    info = cls.model_fields[field]
    if info.examples:
        return str(info.examples[0])
    options = getattr(info.annotation, "__args__", ())
    nested = [meta for option in options for meta in getattr(option, "__metadata__", ())]
    return next((str(meta.examples[0]) for meta in nested if getattr(meta, "examples", None)), str(info.default))
