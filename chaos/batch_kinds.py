"""The kinds of batches as data: how each is cut, how its partitions end, what stops it, and what may come of it.

Pure: makes requests from a seed, sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from uuid_utils.compat import uuid7

from chaos.flavours import CALLED, DONE, NUMBERS, PART, Asked
from interlock.contract.status import TERMINAL

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import JsonValue

MOST: Final = 4
"""Partitions of a batch."""
SHARE: Final = 10 / 13
"""Batches for each execution that a trial is to have: 1,000 in the whole of it."""
CALLING: Final = 0.3
"""The share of batches that call back."""
PLAN: Final = "$plan"
EITHER: Final = {"either": ("completed", "failed")}
"""How a partition may end that decides by the id of its execution: a restart makes it anew, under another id."""
EVENTS: Final = frozenset(
    {"started", "first_failure", "finished", "completed", "partial", "failed", "cancelled", "timed_out"}
)
FIRST_DAY: Final = date(2026, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a batch is good enough, and after how many failures, or which share of them, it stops."""

    partial_min: float = 0.0
    max_failed: int | None = None
    fail_on_empty: bool = False
    fail_fast: float | None = None

    def definition(self) -> dict[str, Any]:
        """Return the fields of a batch that say so."""
        outcome = {name: getattr(self, name) for name in ("partial_min", "max_failed", "fail_on_empty")}
        fields = {"outcome": {name: value for name, value in outcome.items() if value is not None}}
        return fields if self.fail_fast is None else {**fields, "fail_fast": self.fail_fast}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind: its share, how each partition may be told to end, the policies, and more fields of the definition.

    `stopped` is how it ends when somebody stopped it: the trial by a cancel, or its deadline. An `open` one is cut into
    some of its partitions, or none; the trial adds the others while it runs, and seals it. When it has ended the trial
    restarts it `restarts` times, each time whatever did not complete and did not choose to be skipped.
    """

    name: str
    share: int
    ends: tuple[str, ...] = ("completed",)
    policies: tuple[Policy, ...] = (Policy(),)
    fields: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=lambda: {"seconds": 0.01})
    parallel: tuple[int | None, ...] = (1, 2, 32, None)
    stopped: str | None = None
    empty: bool = False
    open: bool = False
    restarts: int = 0


def _retry(attempts: int) -> Mapping[str, Any]:
    return {"retry": {"max_attempts": attempts, "backoff": "constant", "delay": "200ms"}}


KINDS: Final = (
    Kind(name="plain", share=20),
    Kind(name="retried", share=12, fields=_retry(4), params={"seconds": 0.01, "fail": 1}),
    Kind(
        name="mixed",
        share=12,
        ends=("completed", "completed", "failed", "partial", "skipped"),
        policies=(Policy(), Policy(partial_min=0.5), Policy(max_failed=1)),
    ),
    Kind(name="failing", share=4, ends=("failed",), fields=_retry(2)),
    Kind(
        name="fail-fast",
        share=10,
        ends=("completed", "failed", "failed"),
        policies=(Policy(fail_fast=2), Policy(fail_fast=0.4), Policy(fail_fast=1, partial_min=0.2)),
        params={"seconds": 0.1},
        parallel=(1, 2),
    ),
    Kind(name="cancelled", share=10, params={"seconds": 1.0}, stopped="cancelled"),
    Kind(name="late", share=4, fields={"deadline": "1s"}, params={"seconds": 3.0}, stopped="timed_out"),
    Kind(
        name="open",
        share=12,
        ends=("completed", "completed", "failed"),
        policies=(Policy(), Policy(partial_min=0.5)),
        open=True,
    ),
    Kind(
        name="restarted",
        share=12,
        ends=("completed", "either", "either", "failed", "partial", "skipped"),
        policies=(Policy(), Policy(partial_min=0.5), Policy(max_failed=1)),
        restarts=2,
    ),
    Kind(name="empty", share=4, policies=(Policy(), Policy(fail_on_empty=True)), empty=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedBatch(Asked):
    """A batch of the load: how each partition, by its key, may end, when it is good enough, what it calls back for."""

    partitions: Mapping[str, frozenset[str]]
    policy: Policy
    stopped: str | None
    events: frozenset[str]
    partition_limits: tuple[tuple[str, int], ...]
    added: tuple[JsonValue, ...] | None = None
    """What is added to an open one before it is sealed; None: it is born sealed."""
    restarts: int = 0
    """How many times it is restarted, unless all of it is good before."""

    @property
    def stoppable(self) -> bool:
        """Whether what it made may be cancelled: by us, by its deadline, or because too much has failed."""
        return self.stopped is not None or self.policy.fail_fast is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """An execution that a batch made: a partition, the planning, or (without a key) a callback.

    A partition is of the epoch that made it, and `superseded` once a later one has replaced it.
    """

    id: UUID
    batch: UUID
    key: str | None
    epoch: int = 1
    superseded: bool = False


def plan(seed: random.Random, executions: int, prefix: str, evidence: str) -> list[Asked]:
    """Return as many batches as so many executions are worth, in the shares of the kinds, in a random order."""
    chosen = seed.choices(KINDS, [kind.share for kind in KINDS], k=max(1, round(executions * SHARE)))
    return [_asked(seed, kind, prefix, evidence) for kind in chosen]


def _asked(seed: random.Random, kind: Kind, prefix: str, evidence: str) -> AskedBatch:
    identity = str(uuid7())
    ends = [] if kind.empty else seed.choices(kind.ends, k=seed.randint(1, MOST))
    cut, keys, added = _left_open(seed, ends) if kind.open else (*_cut(seed, ends, prefix), None)
    policy, parallel = seed.choice(kind.policies), seed.choice(kind.parallel)
    events = EVENTS if seed.random() < CALLING else frozenset[str]()
    bound = {"key": f"batch-{identity}", "limit": parallel} if parallel else {}
    definition = {
        **kind.fields,
        **policy.definition(),
        **cut,
        "run": {
            "action": f"{prefix}.{PART.name}",
            "params": {
                "evidence": evidence,
                **kind.params,
                **bound,
                "end": "{{ item.end }}" if kind.open else _end(ends),
            },
        },
        "max_parallel": parallel,
        "notify": _notify(sorted(events), prefix, evidence),
    }
    stoppable = {"cancelled"} if kind.stopped or policy.fail_fast else frozenset[str]()
    return AskedBatch(
        id=UUID(identity),
        flavour=f"{kind.name} batch",
        request={"id": identity, "action": f"{prefix}.{kind.name}", "definition": definition},
        ends=frozenset(TERMINAL) - {"abandoned", "skipped"},
        limits=(),
        cancelled=kind.stopped == "cancelled",
        partitions={
            key: frozenset({*EITHER.get(end, {end}), "abandoned", *stoppable})
            for key, end in zip(keys, ends, strict=True)
        },
        policy=policy,
        stopped=kind.stopped,
        events=events,
        partition_limits=((f"batch:{identity}", parallel),) if parallel else (),
        added=added,
        restarts=kind.restarts,
    )


def _end(ends: Sequence[str]) -> str:
    """Say how partitions are told their end: in the same words, or each by its item."""
    return ends[0] if len(set(ends)) == 1 else "{{ item.end }}" if ends else "completed"


def _cut(seed: random.Random, ends: Sequence[str], prefix: str) -> tuple[dict[str, Any], list[str]]:
    """Return the fields that cut a batch into so many partitions, and their keys."""
    count = len(ends)
    numbered = [str(number) for number in range(1, count + 1)]
    if not ends or len(set(ends)) > 1:
        return {"partition": {"items": _named(ends)}, "key": "{{ item.name }}"}, numbered
    way = seed.choice(("numbers", "days", "items", "product", "action"))
    if way == "days":
        days = [str(FIRST_DAY + timedelta(days=number)) for number in range(count)]
        return {"partition": {"range": {"from": days[0], "to": days[-1], "step": "1d"}}}, days
    if way == "items":
        return {"partition": {"items": numbered}}, numbered
    if way == "product":
        product = {"one": ["x"], "other": {"range": {"from": 1, "to": count, "step": 1}}}
        return {"partition": {"product": product}}, [f"x/{number}" for number in numbered]
    if way == "action":
        return {"partition": {"action": f"{prefix}.{NUMBERS.name}", "params": {"count": count}}}, numbered
    return {"partition": {"range": {"from": 1, "to": count, "step": 1}}}, numbered


def _left_open(
    seed: random.Random, ends: Sequence[str]
) -> tuple[dict[str, Any], list[str], tuple[JsonValue, ...] | None]:
    """Return the fields that cut an open batch into its first partitions, all its keys, and what is added later."""
    items = _named(ends)
    first = seed.randint(0, len(items))
    cut = {"partition": {"items": items[:first]}} if first else {}
    fields = {"sealed": False, "key": "{{ item.name }}", **cut}
    return fields, [str(item["name"]) for item in items], tuple(items[first:])


def _named(ends: Sequence[str]) -> list[dict[str, JsonValue]]:
    """Return items that say each partition's name, which is its number, and how it is to end."""
    return [{"name": str(number), "end": end} for number, end in enumerate(ends, 1)]


def _notify(events: Sequence[str], prefix: str, evidence: str) -> list[dict[str, Any]]:
    said = {name: f"{{{{ batch.{name} }}}}" for name in ("epoch", "event")}
    params = {"evidence": evidence, "batch": "{{ batch.id }}", **said}
    return [{"on": list(events), "action": f"{prefix}.{CALLED.name}", "params": params}] if events else []


def as_asked(asked: Iterable[Asked], children: Iterable[Child]) -> list[Asked]:
    """Return what batches made as if it had been asked for: how it may end, and the limits of its keys."""
    batches = {each.id: each for each in asked if isinstance(each, AskedBatch)}
    return [_child(batches[child.batch], child) for child in children]


def _child(batch: AskedBatch, child: Child) -> Asked:
    partition = child.key is not None and child.key != PLAN
    ends = DONE | {"cancelled"} if child.key == PLAN and batch.stoppable else DONE
    if partition:
        # Of what nobody cut, nothing is known: the auditor objects to its being there.
        ends = batch.partitions.get(child.key or "", frozenset(TERMINAL))
    return Asked(
        id=child.id,
        flavour=f"{batch.flavour}: {child.key or 'callback'}",
        request={},
        ends=ends,
        limits=batch.partition_limits if partition else (),
        cancelled=False,
    )
