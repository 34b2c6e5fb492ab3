"""Settings of a worker: its pool, its room, what its actions may import or reach, and when its guardian kills."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from interlock.settings import Name, Seconds, Shared, comma_list

RESERVED_POOLS: Final = frozenset({"relay"})
GUARDIAN_MARGIN: Final = 5.0
"""Seconds a guardian may need from its decision to kill until nothing of the tree is left."""


def _module_name(name: str) -> str:
    if not all(part.isidentifier() for part in name.split(".")):
        msg = f"{name!r} is not the name of a Python module"
        raise ValueError(msg)
    return name


def _host_or_network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        if re.fullmatch(r"(?!-)[A-Za-z0-9.-]{1,253}", text) and not re.fullmatch(r"[0-9.]+", text):
            return text.lower()
        msg = f"{text!r} is neither a host name nor an address nor a network (its host bits must be zero)"
        raise ValueError(msg) from None


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _free_pool_name(name: str) -> str:
    if name in RESERVED_POOLS:
        msg = "is a reserved name, choose another"
        raise ValueError(msg)
    return name


class Settings(Shared):
    """One worker. `concurrency` counts executions at a time; `functions` lists the modules it may import from.

    `http_allow` lists hosts and networks that `http` actions may reach although their addresses are private.
    `guardian` is how many seconds may pass without a good renewal before the guardian kills everything; `containment`
    how it does: by a control group (`cgroup`, required), by lineage (`guardian`), or the former where it can be had.
    """

    pool: Annotated[Name, AfterValidator(_free_pool_name)] = "default"
    concurrency: Annotated[int, Field(ge=1, le=10_000, examples=["32"])] = 32
    functions: Annotated[
        tuple[Annotated[str, AfterValidator(_module_name)], ...],
        BeforeValidator(comma_list),
        Field(examples=["shop.jobs,shop.mail"]),
    ] = ()
    http_allow: Annotated[
        tuple[Annotated[str, AfterValidator(_host_or_network)], ...],
        BeforeValidator(comma_list),
        Field(examples=["intranet.example,10.1.0.0/16"]),
    ] = ()
    guardian: Seconds = 15.0
    containment: Annotated[
        Literal["auto", "cgroup", "guardian"], BeforeValidator(_lower), Field(examples=["cgroup"])
    ] = "auto"
    sweep: Seconds = 0.5

    @model_validator(mode="after")
    def _guardian_kills_before_the_lease_ends(self) -> Self:
        """Nothing of a worker may outlive its lease, so the kill and its margin must fit into it."""
        if self.guardian + GUARDIAN_MARGIN > self.lease:
            msg = (
                f"INTERLOCK_GUARDIAN: {self.guardian:g} + {GUARDIAN_MARGIN:g} s must not exceed INTERLOCK_LEASE, "
                f"which is {self.lease:g} s"
            )
            raise ValueError(msg)
        return self


def environment() -> dict[str, str]:
    """Everything in this process's environment; what of it commands may see is the runner's business."""
    return dict(os.environ)
