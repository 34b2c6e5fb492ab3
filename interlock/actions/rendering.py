"""What an action's definition becomes with parameters put in: arguments or a request. Starts and sends nothing."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlock.actions.problems import Path, Problem, excerpt, written
from interlock.actions.templates import check, render, render_value
from interlock.contract.errors import InvalidParams
from interlock.contract.keys import key_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import JsonValue

    from interlock.contract.definitions import Action
    from interlock.contract.keys import Key

__all__ = [
    "RenderedHttp",
    "check",
    "check_action",
    "field",
    "render",
    "render_command",
    "render_http",
    "render_keys",
    "render_value",
    "texts",
]


@dataclass(frozen=True, kw_only=True)
class RenderedHttp:
    """A request ready to be sent. `body` is None for none; its content type is among the headers."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None


def render_command(action: Action, params: Mapping[str, JsonValue]) -> list[str]:
    """Return the program and its arguments; every item of the definition stays one item.

    Raises InvalidParams, naming the item, for one that cannot be rendered or a program name that comes out empty.
    """
    rendered = []
    for index, item in enumerate(action.command or ()):
        with field("command", index):
            rendered.append(render(item, params))
    if not rendered or not rendered[0].strip():
        raise InvalidParams("command[0]: the program to run comes out empty")
    return rendered


def render_http(action: Action, params: Mapping[str, JsonValue]) -> RenderedHttp:
    """Return the request. Values go into the URL as they are, unless the template uses the filter `urlencode`.

    A body that is a text is sent as it is, any other as JSON; a content type is added where the definition names none.
    Raises InvalidParams, naming the field, also for spaces and control characters in the URL or line breaks in headers.
    """
    http, headers = action.http, dict[str, str]()
    if http is None:
        raise ValueError(f"the action {action.action} is not an http action")
    with field("http", "url"):
        url = _url(render(http.url, params))
    for name, template in http.headers.items():
        with field("http", "headers", name):
            headers[name] = _line(render(template, params))
    with field("http", "body"):
        content = render_value(http.body, params)
    if content is None:
        return RenderedHttp(method=http.method, url=url, headers=headers, body=None)
    is_text = isinstance(content, str)
    if not any(name.lower() == "content-type" for name in headers):
        headers["content-type"] = "text/plain; charset=utf-8" if is_text else "application/json"
    body = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return RenderedHttp(method=http.method, url=url, headers=headers, body=body.encode())


def render_keys(action: Action, params: Mapping[str, JsonValue]) -> list[tuple[str, Key]]:
    """Return the keys that an execution with these parameters has beside the action's own, by name.

    Two that come out as one name are one key; the first says what bounds it. Raises InvalidParams, naming the key.
    """
    rendered: dict[str, Key] = {}
    for index, key in enumerate(action.keys):
        with field("keys", index, "name"):
            try:
                rendered.setdefault(key_name(render(key.name, params)), key)
            except ValueError as error:
                raise InvalidParams(str(error)) from error
    return list(rendered.items())


def check_action(action: Action) -> list[Problem]:
    """Return what is wrong with each template of an action, with the path of its field."""
    return [Problem(path, text) for path, template in _templates(action) for text in check(template, action.params)]


def _templates(action: Action) -> Iterator[tuple[Path, str]]:
    yield from texts(("command",), list(action.command or ()))
    if action.http is not None:
        yield ("http", "url"), action.http.url
        yield from texts(("http", "headers"), dict(action.http.headers))
        yield from texts(("http", "body"), action.http.body)
    for index, key in enumerate(action.keys):
        yield ("keys", index, "name"), key.name


def texts(path: Path, value: JsonValue) -> Iterator[tuple[Path, str]]:
    """Return every text in a value, names of objects included, with its path below `path`."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts((*path, index), item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield (*path, name), name
            yield from texts((*path, name), item)


def _line(text: str) -> str:
    if any(character in text for character in "\r\n"):
        raise InvalidParams("the rendered text holds a line break")
    return text


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise InvalidParams(f"{excerpt(text)} is not a web address; it must begin with https:// or http://")
    if any(character <= " " or character == "\x7f" for character in text):
        raise InvalidParams(f"{excerpt(text)} holds a space or control character; put | urlencode behind the value")
    return text


@contextmanager
def field(*path: str | int) -> Iterator[None]:
    """Put the path of the field in front of a refusal."""
    try:
        yield
    except InvalidParams as error:
        raise InvalidParams(f"{written(path)}: {error}") from error
