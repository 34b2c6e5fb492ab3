"""What an action is: its names, ranges and defaults, as frozen values. Pure: reads no file, imports no function.

Defaults are part of the contract. They are left out of the stored form and of the checksum, so a later version that
adds a field changes neither; whoever changes a default changes what every stored definition means.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from interlock.contract.canonical import storable, storable_text
from interlock.contract.durations import seconds
from interlock.contract.keys import MOST_OWN_KEYS, Bounds, Key, Part
from interlock.contract.resources import Resources
from interlock.contract.status import Status
from interlock.contract.stored import Stored

if TYPE_CHECKING:
    from collections.abc import Collection

RESERVED_POOLS = frozenset({"relay"})
RETRIABLE = frozenset({Status.FAILED, Status.TIMED_OUT})

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_ERROR = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*(/[0-9]{1,3}|/[1-5]xx)?", re.ASCII)
_LONGEST_ERROR = 200
_NAME_RULE = "use 1 to 100 of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or a digit"


def _name(value: str) -> str:
    if _NAME.fullmatch(storable_text(value)) is None:
        raise ValueError(f'"{value[:120]}" cannot be a name; {_NAME_RULE}')
    return value


def _pool(value: str) -> str:
    if value in RESERVED_POOLS:
        raise ValueError(f'the pool name "{value}" is reserved for Interlock itself; choose another')
    return _name(value)


def _function(value: str) -> str:
    module, colon, name = value.partition(":")
    if colon != ":" or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ValueError(f'"{value[:120]}" does not name a function; write package.module:function')
    return storable_text(value)


def _positive(value: float) -> float:
    if value == 0:
        raise ValueError("a timeout of 0 would end everything at once; leave it out (or null) for none")
    return value


def _url(value: str) -> str:
    if not value.startswith(("http://", "https://", "{{")):
        raise ValueError(f'"{value[:120]}" is not a web address; begin it with https:// or http://')
    return _one_line(value)


def _one_line(value: str) -> str:
    if "\r" in value or "\n" in value:
        raise ValueError("line breaks are not allowed here; write the value in one line")
    return storable_text(value)


def _status_choice(value: frozenset[Status]) -> frozenset[Status]:
    if not value or not value <= RETRIABLE:
        raise ValueError(f"only {' and '.join(sorted(RETRIABLE))} can be retried; name one or both, or leave `on` out")
    return value


def _error_name(value: str) -> str:
    if len(value) > _LONGEST_ERROR or _ERROR.fullmatch(value) is None:
        raise ValueError(
            f'"{value[:120]}" cannot be the class of an error; write ConnectionError, package.module.Class, '
            "HttpStatus/503, HttpStatus/5xx or ExitCode/75"
        )
    return value


def _once(value: tuple[str, ...]) -> tuple[str, ...]:
    """Order says nothing here, so that two ways of writing the same have one checksum."""
    return tuple(sorted(set(value)))


Seconds = Annotated[float, BeforeValidator(seconds)]
Timeout = Annotated[float, BeforeValidator(seconds), AfterValidator(_positive)]
Text = Annotated[str, AfterValidator(storable_text)]
Line = Annotated[str, AfterValidator(_one_line)]
Name = Annotated[str, AfterValidator(_name)]
Pool = Annotated[str, AfterValidator(_pool)]
Function = Annotated[str, AfterValidator(_function)]
Url = Annotated[str, AfterValidator(_url)]
Error = Annotated[str, AfterValidator(_error_name)]
Errors = Annotated[tuple[Error, ...], AfterValidator(_once)]
Json = Annotated[JsonValue, AfterValidator(storable)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def _named(names: Collection[str], kinds: Collection[str]) -> bool:
    return any(kind == name or kind.endswith(f".{name}") for name in names for kind in kinds)


class Http(Part):
    """A request that a worker sends. Texts are templates over `params`; a body that is not a text is sent as JSON."""

    method: Method = "GET"
    url: Url
    headers: dict[str, Line] = Field(default={})
    body: Json = None

    @field_validator("method", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("headers")
    @classmethod
    def _header_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if _HEADER.fullmatch(name) is None:
                raise ValueError(f'"{name[:120]}" cannot be a header name; use letters, digits and hyphens')
        if len({name.lower() for name in value}) < len(value):
            raise ValueError("a header is given twice (case does not count); keep one")
        return value


class Retry(Part):
    """When a failed attempt is made again. `max_attempts` counts the first one too; durations are seconds.

    `on` names outcomes. Of `failed` ones only those are made again whose error is one of `errors` (if any are named)
    and none of `not_errors`; see `wants`.
    """

    max_attempts: int = Field(default=1, ge=1, le=1000, strict=True)
    backoff: Literal["constant", "linear", "exponential"] = "exponential"
    delay: Seconds = 1.0
    max_delay: Seconds = 300.0
    jitter: float = Field(default=0.0, ge=0.0, le=1.0)
    on: Annotated[frozenset[Status], AfterValidator(_status_choice)] = RETRIABLE
    errors: Errors = Field(default=(), max_length=50)
    not_errors: Errors = Field(default=(), max_length=50)

    @model_validator(mode="after")
    def _delay_below_cap(self) -> Self:
        if self.delay > self.max_delay:
            raise ValueError(f"delay ({self.delay:g}s) is above max_delay ({self.max_delay:g}s); raise max_delay too")
        return self

    @model_validator(mode="after")
    def _not_both_ways(self) -> Self:
        if both := sorted({*self.errors} & {*self.not_errors}):
            raise ValueError(f"{both[0]} is in errors and in not_errors; keep one")
        if Status.FAILED not in self.on and (self.errors or self.not_errors):
            raise ValueError("errors and not_errors choose among failed attempts; add failed to on, or leave them out")
        return self

    def wants(self, kinds: Collection[str]) -> bool:
        """Whether a failed attempt is to be made again whose error is of these `kinds`.

        These are its class and all it is a case of. A name in the policy stands for a kind of that name, or of one that
        ends so: HTTPError for requests.HTTPError.
        """
        return not _named(self.not_errors, kinds) and (not self.errors or _named(self.errors, kinds))

    def delay_before(self, failures: int, jitter: float) -> float:
        """Return the seconds to wait before the next attempt, after `failures` (1 or more) failed ones.

        `jitter` is a random number from 0 to 1, drawn by the caller; it shortens the delay by at most the share that
        this policy's own `jitter` allows. The result is never above `max_delay`, however large `failures` is.
        """
        if self.backoff == "constant":
            factor = 1.0
        elif self.backoff == "linear":
            factor = float(min(failures, 2**53))
        else:
            factor = 2.0 ** min(failures - 1, 1023)  # the product may be infinite, which the cap turns back
        return min(self.delay * factor, self.max_delay) * (1.0 - self.jitter * jitter)


class Timeouts(Part):
    """Deadlines in seconds; None is none.

    `queue`: from acceptance to the first slot. `start`: from dispatch to a worker's claim. `run`: one attempt.
    `total`: from acceptance to the end, over all attempts.
    """

    queue: Timeout | None = None
    start: Timeout | None = 60.0
    run: Timeout | None = None
    total: Timeout | None = None


class Action(Bounds, Stored):
    """One action: what runs (exactly one of command, function and http), with what parameters, under which limits.

    `params` is a JSON Schema; its bounds are those of its own key, over all workers; `keys` are further ones, named by
    its parameters; `grace` the seconds between asking running work to stop and killing it.
    """

    action: Name
    description: Text | None = Field(default=None, max_length=2000)
    command: tuple[Text, ...] | None = Field(default=None, min_length=1, max_length=1000)
    function: Function | None = None
    http: Http | None = None
    params: Annotated[dict[str, JsonValue], AfterValidator(storable)] = Field(default={"type": "object"})
    keys: tuple[Key, ...] = Field(default=(), max_length=MOST_OWN_KEYS)
    pool: Pool = "default"
    priority: int = Field(default=0, ge=-100, le=100, strict=True)
    retry: Retry = Retry()
    timeout: Timeouts = Timeouts()
    grace: Seconds = Field(default=10.0, le=3600.0)
    isolation: Literal["worker", "process"] = "worker"
    resources: Resources = Resources()

    @field_validator("command")
    @classmethod
    def _program(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not value[0].strip():
            raise ValueError("the first item is the program to run and cannot be empty")
        return value

    @model_validator(mode="after")
    def _one_runner(self) -> Self:
        given = [name for name in ("command", "function", "http") if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            raise ValueError(f"an action has exactly one of command, function and http; {found}")
        if self.function is None and self.isolation != "worker":
            raise ValueError("isolation is for functions; a command always has processes of its own, http needs none")
        if self.command is None and self.resources != Resources():
            raise ValueError("resources are limits of a command; functions and http share those of the worker")
        return self

    @field_validator("keys")
    @classmethod
    def _each_once(cls, value: tuple[Key, ...]) -> tuple[Key, ...]:
        names = [key.name for key in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'the key "{name}" is named twice; keep one')
        return value

    @property
    def name(self) -> str:
        """What this action is called."""
        return self.action

    @property
    def own_key(self) -> str:
        """The name of the key that every execution of this action has."""
        return f"action:{self.action}"

    def bounds(self) -> dict[str, Bounds]:
        """Return the bounds of all keys of this definition, by name as it is written: the own one and the templates."""
        return {self.own_key: self, **{key.name: key for key in self.keys}}

    @property
    def runner(self) -> Literal["command", "function", "http"]:
        """What runs this action."""
        if self.command is not None:
            return "command"
        return "function" if self.function is not None else "http"
