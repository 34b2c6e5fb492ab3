"""Batches at work: the items of a plan, and what each becomes: a key and parameters. Pure and lazy; makes no child."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from interlock.actions.problems import Problem, excerpt, written
from interlock.actions.ranges import stretch
from interlock.actions.rendering import field, texts
from interlock.actions.templates import check, mentions, render_in, render_value_in, scope, value_named
from interlock.contract.batches import COUNTED, ITEM_KEY, is_template
from interlock.contract.errors import InvalidParams

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from interlock.actions.problems import Path
    from interlock.actions.templates import Roots, Scope
    from interlock.contract.batches import Axis, Batch, Notify, Partition, Range

MOST_INLINE: Final = 100_000
LONGEST_KEY: Final = 255
NOTIFIED: Final = ("id", "name", "event", "status", "epoch", "total", *COUNTED)
"""What `batch` holds in the parameters of a notification."""

_PLAIN: Final = 1 << 63
"""Whole numbers below it are rendered as Python writes them."""
_ITEM = re.compile(r"\{\{ *item *\}\}", re.ASCII)
_STREAM = "plan from an action that writes one JSON value per line (`partition: {action: …}`), which has no such limit"


def items(batch: Batch, params: Mapping[str, JsonValue]) -> Iterator[JsonValue]:
    """Return the items that `batch` with these parameters is cut into, in order, each made when it is asked for.

    Raises InvalidParams at once, naming the field, for what cannot be planned. A batch without a partition has none;
    one that plans by an action is a ValueError: only that action knows them.
    """
    plan = batch.partition
    if plan is None:
        return iter(())
    seen = scope(params=dict(params))
    if plan.range is not None:
        return iter(_range(plan.range, seen, ("partition", "range")))
    if plan.product is not None:
        axes = [(name, _axis(axis, seen, ("partition", "product", name))) for name, axis in plan.product.items()]
        return _combinations(axes, {})
    if plan.items is not None:
        return iter(_list(plan.items, seen, ("partition", "items")))
    raise ValueError(f"the partitions of {batch.batch} are what the action {plan.action} makes")


def partition(
    batch: Batch, params: Mapping[str, JsonValue], item: JsonValue, number: int = 1
) -> tuple[str, dict[str, JsonValue]]:
    """Return the key of the partition of `item`, and the parameters that it runs with; see Partitioner for many."""
    return Partitioner(batch, params).partition(item, number)


class Partitioner:
    """Turns items into partitions, for one batch with one set of parameters. Raises InvalidParams for these."""

    def __init__(self, batch: Batch, params: Mapping[str, JsonValue]) -> None:
        self._key = batch.key
        self._plain_key = _ITEM.fullmatch(batch.key) is not None
        self._scope = scope(params=dict(params))
        self._own = {name: value for name, value in batch.run.params.items() if mentions({name: value}, "item")}
        # The same for every item, and so rendered once.
        same = {name: value for name, value in batch.run.params.items() if name not in self._own}
        self._same = _all_rendered(same, self._scope, ("run", "params"))

    def partition(self, item: JsonValue, number: int) -> tuple[str, dict[str, JsonValue]]:
        """Return the key of the partition of `item`, and the parameters that it runs with.

        Raises InvalidParams, naming the field, the item and its `number`, counted from 1 by the caller. Values that are
        the same for all partitions are shared: change none of them.
        """
        try:
            seen = {**self._scope, **scope(item=item)}
            with field("key"):
                key = _child_key(_default_key(seen["item"]) if self._plain_key else render_in(self._key, seen))
            params = self._same | _all_rendered(self._own, seen, ("run", "params"))
        except InvalidParams as error:
            raise InvalidParams(f"partition {number} (item {excerpt(item)}): {error}") from error
        return key, params


def notification(
    notify: Notify, params: Mapping[str, JsonValue], batch: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    """Return the parameters of a notification; `batch` holds what NOTIFIED names. Raises InvalidParams."""
    seen = scope(params=dict(params), batch=dict(batch))
    return _all_rendered(notify.params, seen, ("params",))


def planner_params(plan: Partition, params: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the parameters of the action that makes the list of a batch. Raises InvalidParams, naming the field."""
    return _all_rendered(plan.params, scope(params=dict(params)), ("partition", "params"))


def check_batch(batch: Batch) -> list[Problem]:
    """Return what is wrong with each template of a batch, and with a range that needs no parameters, by field."""
    problems = [
        Problem(path, text)
        for path, template, roots in _templates(batch)
        for text in check(template, batch.params, roots)
    ]
    for path, given in _ranges(batch):
        if not any(is_template(str(value)) for value in (given.first, given.last, given.step)):
            try:
                stretch(given.first, given.last, given.step, path)
            except InvalidParams as error:
                problems.append(Problem(path, str(error).removeprefix(written(path)).lstrip(".: ")))
    return problems


def _templates(batch: Batch) -> Iterator[tuple[Path, str, Roots]]:
    plan = batch.partition
    if plan is not None:
        for path, given in _ranges(batch):
            for name, value in (("from", given.first), ("to", given.last), ("step", given.step)):
                yield from ((*found, {}) for found in texts((*path, name), value))
        for name, axis in (plan.product or {}).items():
            yield from ((*found, {}) for found in texts(("partition", "product", name), axis.items))
        yield from ((*found, {}) for found in texts(("partition", "items"), plan.items))
        yield from ((*found, {}) for found in texts(("partition", "params"), dict(plan.params)))
    item: Roots = {"item": _names(batch)}
    yield ("key",), batch.key, item
    yield from ((*found, item) for found in texts(("run", "params"), dict(batch.run.params)))
    for index, notify in enumerate(batch.notify):
        told = texts(("notify", index, "params"), dict(notify.params))
        yield from ((*found, {"batch": NOTIFIED}) for found in told)


def _ranges(batch: Batch) -> Iterator[tuple[Path, Range]]:
    plan = batch.partition
    if plan is not None and plan.range is not None:
        yield ("partition", "range"), plan.range
    for name, axis in (plan.product if plan is not None and plan.product else {}).items():
        if axis.range is not None:
            yield ("partition", "product", name, "range"), axis.range


def _names(batch: Batch) -> Collection[str] | None:
    """Return the names that every item has, as far as they can be known before there is one."""
    plan = batch.partition
    if plan is None or not batch.sealed or (plan.range is None and plan.product is None):
        return None
    return tuple(plan.product or ())


def _all_rendered(values: Mapping[str, JsonValue], seen: Scope, path: Path) -> dict[str, JsonValue]:
    rendered: dict[str, JsonValue] = {}
    for name, value in values.items():
        rendered |= _rendered(name, value, seen, path)
    return rendered


def _rendered(name: str, value: JsonValue, seen: Scope, path: Path) -> dict[str, JsonValue]:
    with field(*path, name):
        return {render_in(name, seen): render_value_in(value, seen)}


def _default_key(item: object) -> str:
    """Return the text of an item, or the texts of an object's values as they come, with slashes between."""
    values = list(item.values()) if isinstance(item, dict) else [item]
    try:
        text = "/".join(_text(value) for value in values)
    except InvalidParams as error:
        raise InvalidParams(f'{error}; or write a key of your own, such as "{{{{ item.id }}}}"') from error
    return text


def _text(value: object) -> str:
    """Return what `{{ item }}` comes out as; most items are texts and whole numbers, which need no template."""
    if isinstance(value, str):
        return value
    if type(value) is int and abs(value) < _PLAIN:
        return str(value)
    return render_in(ITEM_KEY, {"item": value})


def _child_key(text: str) -> str:
    if not text.strip():
        raise InvalidParams("comes out empty; a partition needs a name")
    if len(text) > LONGEST_KEY:
        raise InvalidParams(f"comes out with {len(text)} characters, at most {LONGEST_KEY} are allowed")
    if not text.isprintable():
        raise InvalidParams(f"{excerpt(text)} is not one printable line; leave out line breaks and control characters")
    if text.startswith("$"):
        raise InvalidParams(f"{excerpt(text)} begins with $, as only Interlock's own children do; put a text before it")
    return text


def _range(given: Range, seen: Scope, path: Path) -> Iterable[int | str]:
    values = []
    for name, value in (("from", given.first), ("to", given.last), ("step", given.step)):
        with field(*path, name):
            values.append(render_value_in(value, seen))
    return stretch(values[0], values[1], values[2], path)


def _axis(axis: Axis, seen: Scope, path: Path) -> Iterable[JsonValue]:
    return _list(axis.items, seen, path) if axis.range is None else _range(axis.range, seen, (*path, "range"))


def _list(given: JsonValue, seen: Scope, path: Path) -> list[JsonValue]:
    with field(*path):
        found = given
        if isinstance(given, str):
            # As JSON, in which expressions are rendered, a list that may be given could be too long.
            named = value_named(given, seen)
            found = render_value_in(given, seen) if named is None else named
        if not isinstance(found, list):
            raise InvalidParams(f"comes out as {excerpt(found)}, which is not a list")
        if len(found) > MOST_INLINE:
            raise InvalidParams(f"the list has {len(found)} items, at most {MOST_INLINE} can be given; {_STREAM}")
    return found if found is not given else _list_of(found, seen, path)


def _list_of(given: list[JsonValue], seen: Scope, path: Path) -> list[JsonValue]:
    """Return a list that was written out, with each item rendered."""
    rendered = []
    for index, item in enumerate(given):
        with field(*path, index):
            rendered.append(render_value_in(item, seen))
    return rendered


def _combinations(axes: Sequence[tuple[str, Iterable[JsonValue]]], chosen: dict[str, JsonValue]) -> Iterator[JsonValue]:
    (name, values), rest = axes[0], axes[1:]
    for value in values:
        if rest:
            yield from _combinations(rest, {**chosen, name: value})
        else:
            yield {**chosen, name: value}
