"""Templates over parameters: MiniJinja with a fuel limit, strict about undefined names, never escaping.

Templates see `params` and nothing else: no environment, no clock, no files. Knows no action.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import minijinja

from interlock.actions.problems import excerpt, unknown_name
from interlock.actions.schemas import undeclared
from interlock.contract.canonical import storable
from interlock.contract.errors import InvalidParams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Literal

    from pydantic import JsonValue

_FUEL = 50_000
_LONGEST_TEXT = 1_048_576
_GLOBALS = frozenset({"range", "dict", "namespace"})
_REMOVED = ("debug", "cycler", "joiner")
_PROBED = {"UnknownFilter": "filter", "UnknownTest": "test", "UnknownFunction": "function"}


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
    return _render(template, _plain(params))


def render_value(value: JsonValue, params: Mapping[str, JsonValue]) -> JsonValue:
    """Return `value` with every text in it rendered, names of objects included.

    A text that is exactly one `{{ expression }}` becomes that expression's value, of whatever type. Raises
    InvalidParams as `render` does.
    """
    return _render_value(value, _plain(params))


def check(template: str, schema: Mapping[str, JsonValue]) -> list[str]:
    """Return what is wrong with `template` before any parameters are known; empty when nothing is.

    Reported are syntax errors, unknown filters, tests and functions, names other than `params`, and parameters that
    `schema` does not declare.
    """
    try:
        names = sorted(_TEXT.undeclared_variables_in_str(template, nested=True))
    except minijinja.TemplateError as error:
        return [f"the template is not valid: {_reason(error)} (in {excerpt(template)})"]
    declared = schema.get("properties")
    known = tuple(declared) if isinstance(declared, dict) else ()
    messages = list(_probe(template))
    for name in names:
        root, *steps = name.split(".")
        if root != "params" and root not in _GLOBALS:
            hint = f"write params.{root}" if root in known else "templates see params.<name> and nothing else"
            messages.append(f'"{root}" is not known here; {hint}')
        elif root == "params" and (missing := undeclared(schema, tuple(steps))):
            messages.append(unknown_name("parameter", *missing))
    return list(dict.fromkeys(messages))


def _probe(template: str) -> Iterator[str]:
    try:
        _PROBE.render_str(template, None, params={})
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


def _render(template: str, plain: dict[str, JsonValue]) -> str:
    if "{" not in template:
        return template
    text = _expand(_TEXT, template, plain)
    if "\0" in text:
        raise InvalidParams("the rendered text holds a NUL character")
    return text


def _expand(environment: minijinja.Environment, template: str, plain: dict[str, JsonValue]) -> str:
    try:
        text = environment.render_str(template, None, params=plain)
    except minijinja.TemplateError as error:
        absent = _absent(template, plain) if error.kind == "UndefinedError" else None
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


def _absent(template: str, plain: dict[str, JsonValue]) -> str | None:
    """Return which parameter the template names that was not given: the engine only says that there is one."""
    names = _TEXT.undeclared_variables_in_str(template, nested=True)
    for name in sorted(name for name in names if name.startswith("params.")):
        found: JsonValue = {"params": plain}
        for step in name.split("."):
            if not isinstance(found, dict) or step not in found:
                return f"{name} is not given"
            found = found[step]
    return None


def _reason(error: minijinja.TemplateError) -> str:
    return error.detail or error.message.removesuffix(" (in <string>:1)")


def _render_value(value: JsonValue, plain: dict[str, JsonValue]) -> JsonValue:
    if isinstance(value, str):
        return _expression(value, plain) if _is_expression(value) else _render(value, plain)
    if isinstance(value, list):
        return [_render_value(item, plain) for item in value]
    if isinstance(value, dict):
        return {_render(name, plain): _render_value(item, plain) for name, item in value.items()}
    return value


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


def _expression(template: str, plain: dict[str, JsonValue]) -> JsonValue:
    try:
        value: JsonValue = storable(json.loads(_expand(_VALUE, template.strip(), plain)))
    except ValueError as error:
        raise InvalidParams(f"{error} (in {excerpt(template)})") from error
    return value
