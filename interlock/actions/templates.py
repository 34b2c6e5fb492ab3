"""Templates over parameters: MiniJinja with a fuel limit, strict about undefined names, never escaping.

Templates see `params`, and further roots where a caller has some: no environment, no clock, no files. Knows no action.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import minijinja

from interlock.actions.problems import excerpt, unknown_name
from interlock.actions.schemas import undeclared
from interlock.contract.canonical import storable
from interlock.contract.errors import InvalidParams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal, NoReturn

    from pydantic import JsonValue

_FUEL = 50_000
_LONGEST_TEXT = 1_048_576
_GLOBALS = frozenset({"range", "dict", "namespace"})
_PATH = re.compile(r"\{\{ *(?P<path>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+) *\}\}", re.ASCII)
_REMOVED = ("debug", "cycler", "joiner")
Scope = dict[str, object]
"""What templates see, by name of the root. Whoever renders twice from one must have made it with `scope`."""

Roots = Mapping[str, Collection[str] | None]
"""Further roots beside `params`, with the names that each has; None for one that may have any."""

_PROBED = {"UnknownFilter": "filter", "UnknownTest": "test", "UnknownFunction": "function"}


class _Fixed(dict[str, object]):
    """An object that templates cannot change by calling its methods, so that many renderings may share it."""

    def _refused(self, *_: object) -> NoReturn:
        raise TypeError("a template cannot change what it is given")

    pop = popitem = clear = update = setdefault = _refused  # type: ignore[assignment]


def _fixed(value: object) -> object:
    if isinstance(value, list):
        return tuple(_fixed(item) for item in value)
    return _Fixed({name: _fixed(item) for name, item in value.items()}) if isinstance(value, dict) else value


def _loose(value: object) -> JsonValue:
    """Return what `_fixed` was given."""
    if isinstance(value, tuple):
        return [_loose(item) for item in value]
    if isinstance(value, dict):
        return {name: _loose(item) for name, item in value.items()}
    return value  # type: ignore[return-value]  # a text, a number or nothing


def _scalar(value: object) -> object:
    """Return what a template writes for a value; raise for one that has no single obvious text."""
    if value is None:
        raise ValueError("the value is null, which has no text; give it another with the filter default('…', true)")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return value
    kind = "a list" if isinstance(value, list | tuple) else "an object"
    raise ValueError(f"the value is {kind}, which is not one text; use a filter such as join(',') or tojson")


def _environment(
    finalizer: Callable[[object], object], undefined: Literal["strict", "chainable"] = "strict"
) -> minijinja.Environment:
    environment = minijinja.Environment(
        fuel=_FUEL,
        undefined_behavior=undefined,
        auto_escape_callback=lambda _name: False,
        keep_trailing_newline=True,
        finalizer=finalizer,
        pycompat=False,
        debug=False,
    )
    for name in _REMOVED:
        environment.remove_global(name)
    return environment


_TEXT = _environment(_scalar)
# Writing an expression as JSON and reading it back keeps its type, and keeps undefined names an error.
_VALUE = _environment(json.dumps)
_PROBE = _environment(lambda _value: "", "chainable")


def render(template: str, params: Mapping[str, JsonValue]) -> str:
    """Return `template` with the parameters put in.

    Raises InvalidParams for a name that is not given, for a value without a text (null, list, object), for a NUL
    character and for more than 1 MiB; the message has no path, which the caller adds.
    """
    return _render(template, {"params": _plain(params)})


def render_value(value: JsonValue, params: Mapping[str, JsonValue]) -> JsonValue:
    """Return `value` with every text in it rendered, names of objects included.

    A text that is exactly one `{{ expression }}` becomes that expression's value, of whatever type. Raises
    InvalidParams as `render` does.
    """
    return _render_value(value, {"params": _plain(params)})


def scope(**roots: JsonValue) -> Scope:
    """Return what the templates of many renderings may see, by name: made once, and the same for each of them.

    Raises InvalidParams for what `render` refuses.
    """
    try:
        return {name: _fixed(storable(value)) for name, value in roots.items()}
    except ValueError as error:
        raise InvalidParams(str(error)) from error


def render_in(template: str, scope: Scope) -> str:
    """Return `template` with what is in `scope` put in. Raises as `render` does."""
    return _render(template, scope)


def render_value_in(value: JsonValue, scope: Scope) -> JsonValue:
    """Return `value` with every text in it rendered from `scope`, as `render_value` does."""
    return _render_value(value, scope)


def value_named(template: str, scope: Scope) -> JsonValue:
    """Return the value that a template such as `{{ params.users }}` names, of whatever size.

    None for any other template, and for one that names nothing: `render_value_in` knows what to do with it.
    """
    path = _PATH.fullmatch(template.strip())
    found: object = scope
    for step in path["path"].split(".") if path else ():
        found = found.get(step) if isinstance(found, dict) else None
    return _loose(found) if path else None


def mentions(value: JsonValue, root: str) -> bool:
    """Whether a text in `value` is a template that names `root`, or none that is valid."""
    if isinstance(value, str):
        try:
            return "{" in value and root in _TEXT.undeclared_variables_in_str(value)
        except minijinja.TemplateError:
            return True
    if isinstance(value, list):
        return any(mentions(item, root) for item in value)
    return isinstance(value, dict) and any(mentions(part, root) for pair in value.items() for part in pair)


def check(template: str, schema: Mapping[str, JsonValue], roots: Roots | None = None) -> list[str]:
    """Return what is wrong with `template` before any parameters are known; empty when nothing is.

    Reported are syntax errors, unknown filters, tests and functions, names other than `params` and `roots`, and what is
    not in them: parameters that `schema` does not declare, names that a root does not have (None: it may have any).
    """
    roots = roots or {}
    try:
        names = sorted(_TEXT.undeclared_variables_in_str(template, nested=True))
    except minijinja.TemplateError as error:
        return [f"the template is not valid: {_reason(error)} (in {excerpt(template)})"]
    declared = schema.get("properties")
    known = tuple(declared) if isinstance(declared, dict) else ()
    messages = list(_probe(template, roots))
    for name in names:
        root, *steps = name.split(".")
        if root in roots:
            messages += _unknown_step(root, steps, roots[root])
        elif root != "params" and root not in _GLOBALS:
            seen = "".join(f" and {name}" for name in roots) or " and nothing else"
            hint = f"write params.{root}" if root in known else f"templates see params.<name>{seen}"
            messages.append(f'"{root}" is not known here; {hint}')
        elif root == "params" and (missing := undeclared(schema, tuple(steps))):
            messages.append(unknown_name("parameter", *missing))
    return list(dict.fromkeys(messages))


def _unknown_step(root: str, steps: list[str], known: Collection[str] | None) -> Iterator[str]:
    if steps and known is not None and steps[0] not in known:
        yield unknown_name(f"name in {root}", steps[0], tuple(sorted(known)))


def _probe(template: str, roots: Collection[str]) -> Iterator[str]:
    try:
        _PROBE.render_str(template, None, params={}, **dict.fromkeys(roots, ""))
    except minijinja.TemplateError as error:
        # Any other kind is a value that is missing from this trial, which says nothing about the template.
        if error.kind in _PROBED:
            yield f"the template is not valid: {_reason(error)}"


def _plain(params: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return a copy, since templates may call methods of what they are given, after refusing NUL characters."""
    try:
        copy = storable(dict(params))
    except ValueError as error:
        raise InvalidParams(str(error)) from error
    return copy if isinstance(copy, dict) else {}


def _render(template: str, scope: Scope) -> str:
    if "{" not in template:
        return template
    text = _expand(_TEXT, template, scope)
    if "\0" in text:
        raise InvalidParams("the rendered text holds a NUL character")
    return text


def _expand(environment: minijinja.Environment, template: str, scope: Scope) -> str:
    try:
        text = environment.render_str(template, None, **scope)
    except minijinja.TemplateError as error:
        absent = _absent(template, scope) if error.kind == "UndefinedError" else None
        raise InvalidParams(f"{absent or _reason(error)} (in {excerpt(template)})") from error
    except ValueError as error:
        raise InvalidParams(f"{error} (in {excerpt(template)})") from error
    except (TypeError, LookupError, AttributeError) as error:
        # A method of a list or object that the template called, or the method itself as a value.
        reason = f"{type(error).__name__}: {error}; call no methods, use filters such as items or join"
        raise InvalidParams(f"{reason} (in {excerpt(template)})") from error
    if len(text) > _LONGEST_TEXT:
        raise InvalidParams(f"the rendered text is longer than 1 MiB (in {excerpt(template)})")
    return text


def _absent(template: str, scope: Scope) -> str | None:
    """Return what the template names that was not given: the engine only says that there is something."""
    names = _TEXT.undeclared_variables_in_str(template, nested=True)
    for name in sorted(name for name in names if name.partition(".")[0] in scope):
        found: object = scope
        for step in name.split("."):
            if not isinstance(found, dict) or step not in found:
                return f"{name} is not given"
            found = found[step]
    return None


def _reason(error: minijinja.TemplateError) -> str:
    return error.detail or error.message.removesuffix(" (in <string>:1)")


def _render_value(value: JsonValue, scope: Scope) -> JsonValue:
    if isinstance(value, str):
        return _expression(value, scope) if _is_expression(value) else _render(value, scope)
    if isinstance(value, list):
        return [_render_value(item, scope) for item in value]
    if isinstance(value, dict):
        return {_render(name, scope): _render_value(item, scope) for name, item in value.items()}
    return value


@lru_cache(maxsize=1024)
def _is_expression(template: str) -> bool:
    """Whether a text is one `{{ expression }}` and nothing else: inside parentheses, two would not parse."""
    text = template.strip()
    if not (text.startswith("{{") and text.endswith("}}")):
        return False
    try:
        _TEXT.undeclared_variables_in_str("{{ (" + text[2:-2] + ") }}")
    except minijinja.TemplateError:
        return False
    return True


def _expression(template: str, scope: Scope) -> JsonValue:
    try:
        value: JsonValue = storable(json.loads(_expand(_VALUE, template.strip(), scope)))
    except ValueError as error:
        raise InvalidParams(f"{error} (in {excerpt(template)})") from error
    return value
