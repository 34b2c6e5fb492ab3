"""The flavours of load as data: which actions there are, what is asked of them, and how each of them may end.

Pure: makes requests from a seed, sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from uuid_utils.compat import uuid7

from chaos.actions import COMMAND, ODD
from interlock.contract.definitions import Action

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

FUNCTION: Final = "chaos.actions:work"
GROUPS: Final = 5
LONG_SECONDS: Final = 8.0
DONE: Final = frozenset({"completed", "abandoned"})
"""How what nobody disturbs may end: whoever loses its worker four times is given up, and says so."""
ANY_END: Final = frozenset({"completed", "failed", "abandoned"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """One action: its share of a load, its definition without names, its parameters, and its legal ends.

    `limits` are its keys with the limit of each; `{group}` in a name stands for the group that a request names.
    """

    name: str
    share: int
    definition: Mapping[str, Any]
    params: Mapping[str, Any] = field(default_factory=dict)
    ends: frozenset[str] = DONE
    limits: tuple[tuple[str, int], ...] = ()
    cancelled: bool = False


def _limited(name: str, share: int, limit: int, seconds: float) -> Flavour:
    return Flavour(
        name=name,
        share=share,
        definition={"function": FUNCTION, "limit": limit},
        params={"seconds": seconds, "key": name, "limit": limit},
        limits=((f"action:{name}", limit),),
    )


def _command(name: str, share: int, limit: int) -> Flavour:
    argv = ["sh", "-c", COMMAND, "sh", "{{ params.evidence }}", name, str(limit), "{{ params.seconds }}"]
    bound = {"limit": limit} if limit else {}
    limits = ((f"action:{name}", limit),) if limit else ()
    return Flavour(
        name=name, share=share, definition={"command": argv, **bound}, params={"seconds": 0.05}, limits=limits
    )


FLAVOURS: Final = (
    Flavour(name="plain", share=52, definition={"function": FUNCTION}, params={"seconds": 0.01}),
    _limited("one", 3, 1, 0.005),
    _limited("three", 7, 3, 0.01),
    _limited("ten", 12, 10, 0.02),
    Flavour(
        name="group",
        share=9,
        definition={
            "function": FUNCTION,
            "keys": [{"name": "{prefix}.group/{{ params.group }}", "limit": 2}],
            "limit": 8,
        },
        params={"seconds": 0.01, "limit": 2},
        limits=(("{prefix}.group/{group}", 2), ("action:group", 8)),
    ),
    Flavour(
        name="rate",
        share=2,
        definition={"function": FUNCTION, "rate": "10/s"},
    ),
    Flavour(
        name="retry",
        share=5,
        definition={
            "function": FUNCTION,
            "limit": 5,
            "retry": {"max_attempts": 4, "backoff": "constant", "delay": "200ms"},
        },
        params={"fail": 2, "key": "retry", "limit": 5},
        limits=(("action:retry", 5),),
    ),
    _command("command", 3, 0),
    _command("tool", 2, 4),
    Flavour(
        name="cancel",
        share=3,
        definition={"function": FUNCTION, "limit": 20},
        params={"seconds": LONG_SECONDS},
        ends=DONE | {"cancelled"},
        limits=(("action:cancel", 20),),
        cancelled=True,
    ),
    Flavour(
        name="timeout",
        share=2,
        definition={"function": FUNCTION, "timeout": {"run": "400ms"}},
        params={"seconds": LONG_SECONDS},
        ends=DONE | {"timed_out"},
    ),
)
ODD_OUTPUT: Final = Flavour(
    name="odd",
    share=0,
    definition={"function": "chaos.actions:odd"},
    ends=ANY_END,
)
ODD_COMMAND: Final = Flavour(
    name="noise",
    share=0,
    definition={
        "command": ["sh", "-c", r"printf '\377\376\000\n'; head -c 300000 /dev/zero; printf '\355\240\200' >&2; exit 3"]
    },
    ends=ANY_END,
)
PART: Final = Flavour(name="part", share=0, definition={"function": "chaos.actions:part"})
NUMBERS: Final = Flavour(name="numbers", share=0, definition={"function": "chaos.actions:numbers"})
CALLED: Final = Flavour(name="called", share=0, definition={"function": "chaos.actions:called"})
"""What batches run, are planned by, and call back."""
ALL: Final = (*FLAVOURS, ODD_OUTPUT, ODD_COMMAND, PART, NUMBERS, CALLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request of the load, or what came of one: what was sent, how it may end, and the limits of its keys."""

    id: UUID
    flavour: str
    request: Mapping[str, Any]
    ends: frozenset[str]
    limits: tuple[tuple[str, int], ...]
    cancelled: bool


def definitions(prefix: str, pool: str) -> list[Action]:
    """Return the actions of all flavours, named `<prefix>.<flavour>`, for one pool."""
    found = []
    for flavour in ALL:
        keys = [{**key, "name": key["name"].replace("{prefix}", prefix)} for key in flavour.definition.get("keys", [])]
        whole = {**flavour.definition, "action": f"{prefix}.{flavour.name}", "pool": pool}
        found.append(Action.model_validate({**whole, "keys": keys} if keys else whole))
    return found


def plan(seed: random.Random, count: int, prefix: str, evidence: str, extra: Sequence[Flavour] = ()) -> list[Asked]:
    """Return `count` requests in the shares of the flavours, and some of each of `extra`, in a random order."""
    shares = [flavour.share for flavour in FLAVOURS]
    chosen = [*seed.choices(FLAVOURS, shares, k=count), *(flavour for flavour in extra for _ in range(len(ODD)))]
    kinds = iter(ODD)
    found = []
    for flavour in seed.sample(chosen, len(chosen)):
        params = {"evidence": evidence, **flavour.params}
        group = seed.randrange(GROUPS)
        if flavour.name == "group":
            params |= {"group": group, "key": f"group-{group}"}
        if flavour.name == "odd":
            params |= {"kind": next(kinds)}
        found.append(_asked(flavour, params, prefix, group))
    return found


def _asked(flavour: Flavour, params: Mapping[str, Any], prefix: str, group: int) -> Asked:
    identity = UUID(str(uuid7()))
    named = [(name.format(prefix=prefix, group=group), limit) for name, limit in flavour.limits]
    return Asked(
        id=identity,
        flavour=flavour.name,
        request={"id": str(identity), "action": f"{prefix}.{flavour.name}", "params": params},
        ends=flavour.ends,
        limits=tuple((name.replace("action:", f"action:{prefix}."), limit) for name, limit in named),
        cancelled=flavour.cancelled,
    )
