"""Templates over parameters: what comes out, what is refused, and what is found out before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from interlock.actions.rendering import RenderedHttp, check, render, render_command, render_http, render_value
from interlock.contract.definitions import Action
from interlock.contract.errors import InvalidParams

if TYPE_CHECKING:
    from pydantic import JsonValue

PARAMS: dict[str, Any] = {
    "path": "a b",
    "none": None,
    "list": [1, "x"],
    "flag": True,
    "count": 3,
    "whole": 2.0,
    "break": "a\r\nb",
    "object": {"key": "v"},
    "host": "https://example.com",
}
SCHEMA: dict[str, Any] = {
    "properties": {"path": {}, "order": {"$ref": "#/$defs/order"}, "free": {"type": "object"}},
    "$defs": {"order": {"properties": {"lines": {}}}},
}


def command(*items: str) -> Action:
    return Action(action="a", command=items)


def http(**fields: object) -> Action:
    return Action.model_validate({"action": "a", "http": fields})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{ params.path }}", "a b"),
        ("<{{ params.path }}>\n", "<a b>\n"),
        ("{{ params.path | urlencode }}", "a%20b"),
        ("{{ params.flag }} {{ params.count }} {{ params.whole }}", "true 3 2"),
        ("{{ params.object.key }}{{ params.list[1] }}", "vx"),
        ("{{ params.list | join(',') }}", "1,x"),
        ("{{ params.absent | default('d') }}{{ params.none | default('n', true) }}", "dn"),
        ("{% if params.absent is defined %}yes{% else %}no{% endif %}", "no"),
        ("{{ '<&>' }}", "<&>"),
    ],
)
def test_templates_put_parameters_in(template: str, expected: str) -> None:
    assert render(template, PARAMS) == expected


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ params.absent }}", "params.absent is not given (in '{{ params.absent }}')"),
        ("{{ params.object.absent }}", "params.object.absent is not given"),
        ("{{ params.none }}", "the value is null, which has no text"),
        ("{{ params.list }}", "the value is a list, which is not one text"),
        ("{{ params.object }}", "the value is an object, which is not one text"),
        ("{{ '\\u0000' }}", "the rendered text holds a NUL character"),
        ("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", "engine ran out of fuel"),
        ("{% for i in range(99) %}{{ 'x' * 99999 }}{% endfor %}", "the rendered text is longer than 1 MiB"),
        ("{{ params.path.__class__ }}", "params.path.__class__ is not given"),
        ("{{ params.__class__() }}", "insecure method call"),
        ("{{ params.pop('x') }}", "KeyError: 'x'; call no methods"),
        ("{% include '/etc/passwd' %}", "tried to include non-existing template"),
        ("{{ debug() }}", "debug is unknown"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_refused(template: str, text: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        render(template, PARAMS)
    assert str(caught.value).startswith(text)


def test_a_template_cannot_change_the_parameters_it_is_given() -> None:
    params: dict[str, Any] = {"list": [1]}
    assert render("{% set x = params.list.append(2) %}{{ params.list | length }}", params) == "2"
    assert params == {"list": [1]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{{ params.list }}", [1, "x"]),
        (" {{ params.flag }} ", True),
        ("{{ params.none }}", None),
        ("{{ params.count + 1 }}", 4),
        ("{{ params.flag }}{{ params.flag }}", "truetrue"),
        ("{{ params.count }}-{{ params.count }}", "3-3"),
        ("{{ '}}' }}", "}}"),
        (
            {"{{ params.object.key }}": [1, "{{ params.object }}", "n={{ params.count }}"]},
            {"v": [1, {"key": "v"}, "n=3"]},
        ),
    ],
)
def test_a_value_that_is_one_expression_keeps_its_type(value: JsonValue, expected: JsonValue) -> None:
    rendered = render_value(value, PARAMS)
    assert (rendered, type(rendered)) == (expected, type(expected))


@pytest.mark.parametrize(
    "template", ["{{ params.absent }}", "{{ params.object.keys() }}", "{{ params.list.append }}", "{{ 2 ** 70 }}"]
)
def test_an_expression_without_a_json_value_is_refused(template: str) -> None:
    with pytest.raises(InvalidParams):
        render_value(template, PARAMS)


def test_each_item_of_a_command_stays_one_argument() -> None:
    action = command("ls", "-l", "{{ params.path }}", "--n={{ params.count }}", "$HOME; rm")
    assert render_command(action, PARAMS) == ["ls", "-l", "a b", "--n=3", "$HOME; rm"]


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (command("ls", "{{ params.list }}"), "command[1]: the value is a list"),
        (command("ls", "{{ params.absent }}"), "command[1]: params.absent is not given"),
        (command("{{ params.absent | default(' ') }}"), "command[0]: the program to run comes out empty"),
    ],
)
def test_a_command_that_cannot_be_rendered_names_the_item(action: Action, text: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        render_command(action, PARAMS)
    assert str(caught.value).startswith(text)


def test_only_an_http_action_renders_a_request() -> None:
    with pytest.raises(ValueError, match="the action a is not an http action"):
        render_http(command("ls"), PARAMS)


def test_a_parameter_with_a_nul_character_is_refused() -> None:
    with pytest.raises(InvalidParams, match="NUL"):
        render_command(command("ls", "{{ params.path }}"), {"path": "a\0b"})


def test_a_request_without_a_body_has_only_its_own_headers() -> None:
    action = http(url="{{ params.host }}/{{ params.path | urlencode }}", headers={"X-Count": "{{ params.count }}"})
    assert render_http(action, PARAMS) == RenderedHttp(
        method="GET", url="https://example.com/a%20b", headers={"X-Count": "3"}, body=None
    )


@pytest.mark.parametrize(
    ("body", "sent", "content_type"),
    [
        ({"é": "{{ params.list }}"}, '{"é":[1,"x"]}', "application/json"),
        ("n={{ params.count }}", "n=3", "text/plain; charset=utf-8"),
        ("{{ params.object }}", '{"key":"v"}', "application/json"),
        (False, "false", "application/json"),
    ],
)
def test_a_body_is_sent_as_json_unless_it_is_a_text(body: object, sent: str, content_type: str) -> None:
    rendered = render_http(http(method="POST", url="https://example.com/", body=body), PARAMS)
    assert rendered.body == sent.encode()
    assert rendered.headers == {"content-type": content_type}


def test_a_content_type_of_ones_own_is_kept() -> None:
    rendered = render_http(http(url="https://a/", headers={"Content-Type": "text/csv"}, body="1,2"), PARAMS)
    assert rendered.headers == {"Content-Type": "text/csv"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"url": "https://a/{{ params.path }}"}, "http.url: 'https://a/a b' holds a space or control character"),
        ({"url": "https://a/{{ params.break }}"}, "http.url: 'https://a/a\\r\\nb' holds a space or control character"),
        ({"url": "{{ params.path }}"}, "http.url: 'a b' is not a web address"),
        (
            {"url": "https://a/", "headers": {"X-A": "{{ params.break }}"}},
            "http.headers.X-A: the rendered",
        ),
        ({"url": "https://a/", "body": {"a": "{{ params.absent }}"}}, "http.body: params.absent is not given"),
    ],
)
def test_a_request_that_cannot_be_rendered_names_the_field(fields: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        render_http(http(**fields), PARAMS)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ params.path }}{% for x in params.free.anything %}{{ x.name }}{% endfor %}", []),
        ("{{ params.order.lines }}{{ range(3) | join }}", []),
        ("{{ params.pth }}", ['unknown parameter "pth"; did you mean "path"?']),
        ("{{ params.zebra }}", ['unknown parameter "zebra"; the known ones are free, order, path']),
        ("{{ params.order.line }}", ['unknown parameter "line"; did you mean "lines"?']),
        ("{{ path }}", ['"path" is not known here; write params.path']),
        ("{{ env.HOME }}", ['"env" is not known here; templates see params.<name> and nothing else']),
        ("{{ params.path | uper }}", ["the template is not valid: filter uper is unknown"]),
        ("{{ params.path is strng }}", ["the template is not valid: test strng is unknown"]),
        ("{{ params.path + [] }}", []),
        (
            "{{ x",
            ["the template is not valid: unexpected end of input, expected end of variable block (in '{{ x')"],
        ),
    ],
)
def test_mistakes_in_a_template_are_found_without_parameters(template: str, expected: list[str]) -> None:
    assert check(template, SCHEMA) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object"}, 0),
        ({"additionalProperties": False}, 1),
        ({"properties": {"b": {}}}, 1),
        ({"properties": {"b": {}}, "additionalProperties": True}, 0),
        ({"properties": {"b": {}}, "patternProperties": {"^a": {}}}, 0),
        ({"properties": {"b": {}}, "allOf": [{"properties": {"a": {}}}]}, 0),
        ({"$ref": "#"}, 0),
        ({"properties": {"a": True}}, 0),
    ],
)
def test_a_parameter_is_unknown_only_where_the_schema_lists_the_known_ones(
    schema: dict[str, Any],
    expected: int,
) -> None:
    assert len(check("{{ params.a }}", schema)) == expected
