"""Parameters against a JSON Schema, and schemas against the mistakes that would make them check nothing."""

from __future__ import annotations

from typing import Any

import pytest

from interlock.actions.validation import Schema, check_schema
from interlock.contract.errors import InvalidParams

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["path"],
    "additionalProperties": False,
    "properties": {
        "path": {"type": "string", "maxLength": 100},
        "mode": {"enum": ["fast", "thorough"]},
        "since": {"type": "string", "format": "date"},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 1}},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "list": {"allOf": [{"properties": {"first": {}}, "unevaluatedProperties": False}]},
        "order": {"$ref": "#/$defs/order"},
    },
    "$defs": {"order": {"properties": {"lines": {}}, "additionalProperties": False}},
}


def test_parameters_that_fit_are_accepted() -> None:
    Schema(SCHEMA).check({"path": "/tmp", "mode": "fast", "since": "2024-02-29", "sizes": [1, 2], "either": 1})  # noqa: S108


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, "params.path is missing"),
        ({"path": "x", "pth": 1}, 'params.pth is unknown; did you mean "path"?'),
        ({"path": "x", "zebra": 1}, "params.zebra is unknown, the known ones are either, list, mode, order, path"),
        ({"path": 1}, 'params.path: the value is not of type "string" (found 1)'),
        ({"path": "x", "mode": "fsat"},
         "params.mode: the value is not one of \"fast\" or \"thorough\" (found 'fsat'); did you mean \"fast\"?"),
        ({"path": "x", "since": "2023-02-29"}, "params.since: the value is not a \"date\" (found '2023-02-29')"),
        ({"path": "x", "sizes": [1, 0]}, "params.sizes[1]: the value is less than the minimum of 1 (found 0)"),
        ({"path": "x", "either": None},
         'params.either: the value fits none of the allowed forms: the value is not of type "string", or the value'),
        ({"path": "x", "order": {"line": 1}}, 'params.order.line is unknown; did you mean "lines"?'),
        ({"path": "x", "list": {"fist": 1}}, 'params.list.fist is unknown; did you mean "first"?'),
        ({"path": "x\0"}, "params: the text holds a NUL character"),
        ({"path": "\ud800"}, "params: the text holds half of a character"),
        ({"path": float("nan")}, "params: the value holds a number that is not finite"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_and_what_was_expected(params: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        Schema(SCHEMA).check(params)
    assert str(caught.value).startswith(text)
    assert caught.value.code == "invalid_params"


def test_all_wrong_fields_are_named_up_to_five() -> None:
    with pytest.raises(InvalidParams) as caught:
        Schema(SCHEMA).check({"path": "x", "sizes": ["a"] * 8})
    assert str(caught.value).count("not of type") == 5
    assert str(caught.value).endswith("; and more")


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (
            {"path": "x", "sizes": ["a"] * 300_000},
            "params.sizes: the value does not fit, and is too large to say where",
        ),
        (
            {"pth": "x", "sizes": [1] * 300_000},
            'params.path is missing; params.pth is unknown; did you mean "path"?',
        ),
        (
            {"path": "x", "either": [None] * 300_000, "mode": "slow"},
            "params.either: the value does not fit, and is too large to say where; params.mode: the value is not one",
        ),
        ({"path": "x", "zebra": [1] * 3000}, "params.zebra is unknown, the known ones are"),
        (
            {str(number): 1 for number in range(3000)},
            "params: the parameters do not fit the action's schema, and are too large to say where",
        ),
    ],
    ids=["wrong items", "right items", "wrong form", "unknown", "too many"],
)
def test_large_parameters_are_refused_without_describing_each_value(params: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        Schema(SCHEMA).check(params)
    assert str(caught.value).startswith(text)


def test_large_parameters_that_fit_only_in_parts_are_refused_as_a_whole() -> None:
    schema = Schema({"allOf": [{"properties": {"a": {"maxItems": 1}}}], "properties": {"b": {"$ref": "#/allOf/0"}}})
    with pytest.raises(InvalidParams, match="too large to say where"):
        schema.check({"a": [1] * 3000})


def test_a_refusal_shows_only_the_beginning_of_a_large_value() -> None:
    with pytest.raises(InvalidParams) as caught:
        Schema(SCHEMA).check({"path": "x" * 1_000_000})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("reference", ["http://example.com/schema.json", "https://example.com/", "file:///etc/passwd"])
def test_a_reference_out_of_the_schema_is_refused(reference: str) -> None:
    problems = check_schema({"properties": {"a": {"$ref": reference}}})
    assert [problem.message for problem in problems] == [
        "a $ref must stay in this schema, such as `#/$defs/name`; nothing is fetched from elsewhere"
    ]
    with pytest.raises(ValueError, match="nothing is fetched"):
        Schema({"$ref": reference})


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "objct"}, "type: not a valid JSON Schema (Draft 2020-12): "),
        ({"properties": {"a": {"pattern": "("}}}, "properties.a.pattern: not a valid JSON Schema"),
        ({"$ref": "#/$defs/nope"}, "not a valid JSON Schema (Draft 2020-12): Pointer '/$defs/nope' does not exist"),
        ({"requierd": ["a"]}, 'requierd: unknown keyword; did you mean "required"?'),
        ({"properties": {"a": {"items": {"minimun": 1}}}},
         'properties.a.items.minimun: unknown keyword; did you mean "minimum"?'),
        ({"allOf": [{"format": "datetime"}]}, 'allOf[0].format: "datetime" is not a format; did you mean "date-time"?'),
        ({"type": "array"}, "type: parameters are always an object; write `type: object`"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema: only Draft 2020-12 is understood"),
        ({"properties": {"path": {}}, "required": ["pth"], "additionalProperties": False},
         'required[0]: "pth" is required but not in properties; did you mean "path"?'),
    ],
)  # fmt: skip
def test_a_schema_that_would_not_check_what_it_says_is_refused(schema: dict[str, Any], text: str) -> None:
    (problem,) = check_schema(schema)
    assert str(problem).startswith(text)


def test_names_of_properties_are_not_taken_for_keywords() -> None:
    assert check_schema({"properties": {"requierd": {"const": {"formt": 1}}, "typ": True}, "x-widget": "slider"}) == []
