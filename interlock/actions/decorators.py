"""`@action`: a definition next to the function it runs. Changes no function and registers nothing."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, TypeVar

from interlock.actions.definition import Definition, examine, repeats
from interlock.actions.signatures import schema_of
from interlock.contract.definitions import Action
from interlock.contract.errors import InvalidDefinition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

    from pydantic import JsonValue

ATTRIBUTE = "__interlock_action__"

_F = TypeVar("_F", bound="Callable[..., object]")


def action(  # noqa: PLR0913 - the fields of a definition, each with its own name
    name: str,
    *,
    params: Mapping[str, JsonValue] | None = None,
    limit: int | None = None,
    rate: str | None = None,
    burst: int | None = None,
    cap: int | None = None,
    cap_policy: str = "reject",
    keys: Iterable[Mapping[str, object]] = (),
    pool: str = "default",
    priority: int = 0,
    retry: Mapping[str, object] | None = None,
    timeout: Mapping[str, object] | None = None,
    grace: str | float = 10.0,
    isolation: str = "worker",
    description: str | None = None,
) -> Callable[[_F], _F]:
    """Define the action `name` by the function below, async or not; the function itself is returned unchanged.

    The fields mean what they mean in a file, durations included. Without `params` the JSON Schema is derived from the
    function's annotations, ignoring a parameter named `context`; without `description` it is the first line of the
    docstring. Raises InvalidDefinition, with file and line, when the module is imported.
    """
    fields = {
        "action": name,
        "limit": limit,
        "rate": rate,
        "burst": burst,
        "cap": cap,
        "cap_policy": cap_policy,
        "keys": [dict(key) for key in keys],
        "pool": pool,
        "priority": priority,
        "retry": dict(retry or {}),
        "timeout": dict(timeout or {}),
        "grace": grace,
        "isolation": isolation,
    }

    def decorate(function: _F) -> _F:
        setattr(function, ATTRIBUTE, _action(function, fields, params, description))
        return function

    return decorate


def _action(
    function: Callable[..., object],
    fields: Mapping[str, object],
    params: Mapping[str, JsonValue] | None,
    description: str | None,
) -> Action:
    place = _place(function)
    try:
        schema = schema_of(function) if params is None else dict(params)
    except InvalidDefinition as error:
        raise InvalidDefinition(f"{place[0]}:{place[1]}: {error}") from error
    summary = description or (inspect.getdoc(function) or "").partition("\n")[0] or None
    found = examine({**fields, "function": _address(function), "params": schema, "description": summary})
    if isinstance(found, list):
        raise InvalidDefinition("\n".join(f"{place[0]}:{place[1]}: {problem}" for problem in found))
    return found


def collect(modules: Iterable[ModuleType]) -> list[Definition]:
    """Return the definitions of the functions that `modules` define themselves; what they import from others is not.

    Raises InvalidDefinition, naming both places, if two functions define one name.
    """
    functions: dict[int, Callable[..., object]] = {}
    for module in modules:
        for value in vars(module).values():
            if inspect.isfunction(value) and hasattr(value, ATTRIBUTE) and value.__module__ == module.__name__:
                functions[id(value)] = value
    definitions = [_definition(function) for function in functions.values()]
    if repeated := repeats(definitions):
        raise InvalidDefinition("\n".join(repeated))
    return definitions


def _definition(function: Callable[..., object]) -> Definition:
    found = getattr(function, ATTRIBUTE)
    if not isinstance(found, Action):
        raise TypeError(f"{ATTRIBUTE} of {function!r} is not an Action; only @action sets it")
    file, line = _place(function)
    return Definition(content=found, file=file, line=line)


def _place(function: Callable[..., object]) -> tuple[str, int]:
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        raise InvalidDefinition(f"@action is for functions, not for {function!r}")
    return code.co_filename, code.co_firstlineno


def _address(function: Callable[..., object]) -> str:
    name = getattr(function, "__qualname__", "")
    if "<" in name:
        file, line = _place(function)
        raise InvalidDefinition(
            f"{file}:{line}: {name} is not at the top of a module, where a worker could find it; move it there"
        )
    return f"{function.__module__}:{name}"
