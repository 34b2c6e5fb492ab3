"""What a batch is: how its work is cut into partitions, what runs each, when it stops, how it ends. Pure.

As for actions, defaults are part of the contract and left out of the stored form. Two steps stay out of here: templates
are held against the parameters' schema in `interlock.actions`, and outcomes are judged in `executor.rules`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from interlock.contract.canonical import storable
from interlock.contract.definitions import RETRIABLE, Json, Name, Pool, Retry, Text, Timeout
from interlock.contract.durations import seconds
from interlock.contract.keys import Part
from interlock.contract.status import Status
from interlock.contract.stored import Stored

MOST_AXES: Final = 8
MOST_NOTIFICATIONS: Final = 20
MOST_PARALLEL: Final = 1_000_000
ITEM_KEY: Final = "{{ item }}"
PARTITION_RETRIABLE: Final = RETRIABLE | {Status.ABANDONED}

COUNTED: Final = ("completed", "partial", "failed", "timed_out", "cancelled", "abandoned", "skipped")
"""The terminal statuses, in the order in which a batch tells its counts."""

Event = Literal["started", "first_failure", "finished", "completed", "partial", "failed", "cancelled", "timed_out"]


def is_template(text: str) -> bool:
    """Whether a text says something else when it is rendered."""
    return "{{" in text or "{%" in text


def _bound(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        message = "a range goes between dates, times with a zone or whole numbers; write one, or a template"
        raise ValueError(message)  # noqa: TRY004 - pydantic turns ValueError, not TypeError, into a field error
    return storable(value)


def _step(value: object) -> object:
    if isinstance(value, str) and is_template(value):
        return storable(value)
    if isinstance(value, str):
        length: float = seconds(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        length = value
    else:
        message = "a step is a duration such as 1d or 6h, or between whole numbers a whole number"
        raise ValueError(message)  # noqa: TRY004 - as above
    if length <= 0:
        raise ValueError("a range with a step of 0 or less never arrives; write a step above 0")
    return storable(value)


def _list(value: object) -> object:
    if not (isinstance(value, list) or (isinstance(value, str) and is_template(value))):
        raise ValueError('a list is needed here: write one, or a template that gives one, such as "{{ params.users }}"')
    return value


def _partition_statuses(value: frozenset[Status]) -> frozenset[Status]:
    if not value or not value <= PARTITION_RETRIABLE:
        words = ", ".join(sorted(PARTITION_RETRIABLE))
        raise ValueError(f"only these can be made again: {words}; name at least one, or leave `on` out")
    return value


def _fail_fast(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise ValueError("write how many failures are too many (5), or what share of all partitions (0.1, for a tenth)")


Bound = Annotated[int | str, BeforeValidator(_bound)]
Step = Annotated[int | str, BeforeValidator(_step)]
Items = Annotated[Json, BeforeValidator(_list)]


class Range(Part):
    """Dates, times or whole numbers in equal steps: `{from: 2026-01-01, to: 2026-01-31, step: 1d}`.

    Both ends are included; the last one only when a step arrives at it exactly. Dates are calendar days and go in whole
    ones. Times have a zone, whose offset all of them keep. Each of the three may be a template over `params`.
    """

    first: Bound = Field(alias="from")
    last: Bound = Field(alias="to")
    step: Step


class Axis(Part):
    """The values of one name of a product: exactly one of a range and a list. A list or template alone is `items`."""

    range: Range | None = None
    items: Items = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return value if isinstance(value, dict | Axis) else {"items": value}

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.range is None) == (self.items is None):
            raise ValueError("the values of a name are a list, a template that gives one, or `range: {…}`; write one")
        return self


class Partition(Part):
    """How the work is cut: exactly one of range, product, items and action.

    `product` gives an object per combination, the first name outermost. `items` is a list or a template that gives one.
    `action` names an action whose result, a list, or stream of JSON lines is the list; `params` are its parameters.
    """

    range: Range | None = None
    product: Annotated[dict[str, Axis], Field(min_length=1, max_length=MOST_AXES)] | None = None
    items: Items = None
    action: Name | None = None
    params: dict[str, Json] = Field(default={})

    @model_serializer(mode="wrap")
    def _ordered(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Write a product as a list of axes with their names: an object does not keep its order in a database."""
        content: dict[str, object] = dump(self)
        axes = content.get("product")
        if isinstance(axes, dict):
            content["product"] = [{"name": name, **axis} for name, axis in axes.items()]
        return content

    @field_validator("product", mode="before")
    @classmethod
    def _from_ordered(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        try:
            return {axis["name"]: {n: v for n, v in axis.items() if n != "name"} for axis in value}
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("a product is a mapping of names to lists or ranges") from error

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in ("range", "product", "items", "action") if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            raise ValueError(f"a partition has exactly one of range, product, items and action; {found}")
        if self.params and self.action is None:
            raise ValueError(
                "params are those of the action that makes the list; give its name, too: `action: plan-it`"
            )
        return self


class Run(Part):
    """What runs each partition: an action with these parameters, templates over `params` and `item`."""

    action: Name
    params: dict[str, Json] = Field(default={})


class PartitionRetry(Retry):
    """A retry that may name `abandoned` as well.

    It says nothing new: attempts whose worker was lost are counted apart, and made again up to the third loss in any
    case.
    """

    on: Annotated[frozenset[Status], AfterValidator(_partition_statuses)] = RETRIABLE


class Outcome(Part):
    """When a batch is good enough, judged on the total when everything has ended.

    `partial_min`: the share of completed partitions, from 0 to 1, below which it has failed. `max_failed`: how many may
    fail, time out or be abandoned. `fail_on_empty`: whether a batch without partitions has failed.
    """

    partial_min: float = Field(default=0.0, ge=0.0, le=1.0)
    max_failed: int | None = Field(default=None, ge=0, strict=True)
    fail_on_empty: bool = Field(default=False, strict=True)


class Notify(Part):
    """An action that runs when something happens to the batch, with templates over `params` and `batch`."""

    on: frozenset[Event] = Field(min_length=1)
    action: Name
    params: dict[str, Json] = Field(default={})


class Batch(Stored):
    """One batch: a list of partitions, the action that runs each, and how all of them together end.

    `params` is a JSON Schema. `key` names a partition. `max_parallel` is how many run at the same time (None: as many
    as the action's own limits allow), `retry` replaces that of the action. `fail_fast` is a count of failures or, when
    nothing is added any more, a share of the total. A batch that is not `sealed` takes more partitions until it is.
    """

    batch: Name
    description: Text | None = Field(default=None, max_length=2000)
    params: Annotated[dict[str, JsonValue], AfterValidator(storable)] = Field(default={"type": "object"})
    partition: Partition | None = None
    key: Text = Field(default=ITEM_KEY, min_length=1, max_length=1000)
    run: Run
    max_parallel: int | None = Field(default=32, ge=1, le=MOST_PARALLEL, strict=True)
    retry: PartitionRetry | None = None
    outcome: Outcome = Outcome()
    fail_fast: Annotated[int | float, BeforeValidator(_fail_fast)] | None = None
    deadline: Timeout | None = None
    sealed: bool = Field(default=True, strict=True)
    pool: Pool = "default"
    priority: int = Field(default=0, ge=-100, le=100, strict=True)
    notify: tuple[Notify, ...] = Field(default=(), max_length=MOST_NOTIFICATIONS)

    @field_validator("key")
    @classmethod
    def _tells_apart(cls, value: str) -> str:
        if not is_template(value):
            raise ValueError(f'"{value[:80]}" names every partition the same; write a template such as "{ITEM_KEY}"')
        return value

    @field_validator("notify", mode="before")
    @classmethod
    def _one_alone(cls, value: object) -> object:
        return [value] if isinstance(value, dict) else value

    @field_validator("notify")
    @classmethod
    def _each_event_once(cls, value: tuple[Notify, ...]) -> tuple[Notify, ...]:
        events = sorted(event for notify in value for event in notify.on)
        for event in events:
            if events.count(event) > 1:
                raise ValueError(f'"{event}" is named twice; each event starts one action')
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.partition is None and self.sealed:
            raise ValueError("partition is missing; say how the work is cut, or write `sealed: false` and add it later")
        if isinstance(self.fail_fast, float) and not self.sealed:
            raise ValueError("fail_fast is a share of the total, which an open batch does not know; write a count")
        return self

    @property
    def name(self) -> str:
        """What this batch is called."""
        return self.batch

    def actions(self) -> dict[str, str]:
        """Return the names of the actions that this batch starts, by the field that names each."""
        named = {"run.action": self.run.action}
        if self.partition is not None and self.partition.action is not None:
            named["partition.action"] = self.partition.action
        return named | {f"notify[{index}].action": notify.action for index, notify in enumerate(self.notify)}
