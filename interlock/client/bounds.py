"""What a change makes of a key's bounds, and how they are written. Pure.

The bounds of a key that does not exist yet are those of the definition that would make it: pausing a customer early
must not lift the customer's limit.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypedDict

from pydantic import ValidationError

from interlock.actions.problems import translate
from interlock.contract.errors import InterlockError
from interlock.contract.keys import RESERVED, Bounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import JsonValue

    from interlock.contract.definitions import Action

_PLACES: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_EXACT: Final = 1e-9
_COLUMNS: Final = {
    "limit": ("lim",),
    "rate": ("rate_every", "rate_burst"),
    "burst": ("rate_burst",),
    "cap": ("cap",),
    "cap_policy": ("cap_policy",),
}


class InvalidBounds(InterlockError):
    """Bounds that a key cannot have; the text says what to give instead."""


class Change(TypedDict, total=False):
    """What to change of a key's bounds; what is left out stays. None: no limit, no rate, no cap."""

    limit: int | None
    rate: str | None
    burst: int | None
    cap: int | None
    cap_policy: Literal["reject", "drop_oldest"]


class Declared(NamedTuple):
    """What definitions say of a key: the name as it is written there, and the bounds."""

    template: str
    bounds: Bounds


def declared(name: str, actions: Iterable[Action]) -> Declared | None:
    """Return what `actions` say of the key called `name`, or None. Of several templates that fit, the most literal."""
    found = [
        (len(_PLACES.sub("", template)), Declared(template, bounds))
        for action in actions
        for template, bounds in action.bounds().items()
        if _fits(template, name)
    ]
    return max(found, key=lambda each: each[0])[1] if found else None


def _fits(template: str, name: str) -> bool:
    if name.startswith(tuple(RESERVED)):
        return template == name  # No template may come out so.
    literal = [re.escape(part) for part in _PLACES.split(template)]
    return re.fullmatch(".*".join(literal), name, re.DOTALL) is not None


def columns_of(change: Change, row: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Return the columns of `queue` that `change` sets on the key as it stands in `row`. Raises InvalidBounds.

    Another rate has its usual burst unless one is given; without a rate there is no burst, and without a cap no policy.
    """
    whole: dict[str, Any] = dict(change)
    if "burst" in whole and "rate" not in whole and row["rate_every"] is not None:
        whole["rate"] = rate_text(row["rate_every"])
    if "cap_policy" in whole and "cap" not in whole:
        whole["cap"] = row["cap"]
    try:
        wanted = Bounds.model_validate(whole).columns()
    except ValidationError as error:
        raise InvalidBounds("; ".join(map(str, translate(error, whole)))) from error
    names = {column for field in change for column in _COLUMNS[field]}
    if "cap" in change and change["cap"] is None:
        names.add("cap_policy")
    return {name: value for name, value in wanted.items() if name in names}


def rate_text(every: float) -> str:
    """Return the rate of one admission per `every` seconds as a definition would write it: 10/s, 3/m, 1/90s."""
    for unit, length in _UNITS.items():
        count = round(length / every)
        if count and abs(count * every - length) <= _EXACT * length:
            return f"{count}/{unit}"
    return f"1/{every:.9f}".rstrip("0").rstrip(".") + "s"
