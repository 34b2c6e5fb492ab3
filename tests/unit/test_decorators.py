"""The decorator: what it reads off a function, what it refuses, and how definitions are collected."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from types import ModuleType

import pytest
from pydantic import BaseModel

import interlock
from interlock import action
from interlock.actions.decorators import ATTRIBUTE, collect
from interlock.actions.signatures import arguments, arguments_model, schema_of
from interlock.contract.definitions import Action, Retry, Timeouts
from interlock.contract.errors import InvalidDefinition, InvalidParams


class Order(BaseModel):
    lines: list[int]


@action("resize", limit=3, pool="gpu", priority=5, retry={"max_attempts": 3}, timeout={"run": "5m"}, grace="1s")
async def resize(path: str, width: int = 100, *, order: Order | None = None, context: object = None) -> str:
    """Resize a picture.

    More words.
    """
    return f"{path} {width} {order} {context}"


@action("tick", params={"type": "object", "maxProperties": 0})
def tick() -> None:
    pass


def module(name: str, source: str) -> ModuleType:
    made = ModuleType(name)
    exec(compile(source, f"{name}.py", "exec"), vars(made))  # noqa: S102 - a module as its author would write it
    return made


def test_the_function_itself_is_unchanged_and_carries_its_definition() -> None:
    assert resize.__name__ == "resize"
    assert getattr(resize, ATTRIBUTE) == Action.model_validate(
        {
            "action": "resize",
            "description": "Resize a picture.",
            "function": f"{__name__}:resize",
            "limit": 3,
            "pool": "gpu",
            "priority": 5,
            "retry": Retry(max_attempts=3),
            "timeout": Timeouts(run=300.0),
            "grace": 1.0,
            "params": {
                "type": "object",
                "additionalProperties": False,
                "required": ["path"],
                "properties": {
                    "path": {"type": "string"},
                    "width": {"type": "integer", "default": 100},
                    "order": {"anyOf": [{"$ref": "#/$defs/Order"}, {"type": "null"}], "default": None},
                },
                "$defs": {
                    "Order": {
                        "type": "object",
                        "title": "Order",
                        "required": ["lines"],
                        "properties": {"lines": {"type": "array", "title": "Lines", "items": {"type": "integer"}}},
                    }
                },
            },
        }
    )


def test_a_schema_of_ones_own_replaces_the_derived_one() -> None:
    assert getattr(tick, ATTRIBUTE).params == {"type": "object", "maxProperties": 0}


def test_names_that_models_use_themselves_are_names_like_any_other() -> None:
    def function(_x: int, json: str, copy: bool, **more: int) -> None:  # noqa: FBT001
        pass

    assert schema_of(function) == {
        "type": "object",
        "properties": {"_x": {"type": "integer"}, "json": {"type": "string"}, "copy": {"type": "boolean"}},
        "required": ["_x", "json", "copy"],
        "additionalProperties": True,
    }
    filled = arguments(arguments_model(function), {"_x": 1, "json": "a", "copy": True, "z": 2})
    assert filled == {"_x": 1, "json": "a", "copy": True, "z": 2}


def test_a_default_that_json_does_not_have_is_left_out_of_the_schema() -> None:
    marker = object()

    def function(names: tuple[str, ...] = (), other: int = marker) -> None:  # type: ignore[assignment]
        pass

    assert schema_of(function)["properties"] == {
        "names": {"type": "array", "items": {"type": "string"}},
        "other": {"type": "integer"},
    }


def test_parameters_become_arguments_of_the_annotated_types() -> None:
    def function(when: dt.datetime, order: Order, absent: int = 1) -> None:
        pass

    model = arguments_model(function)
    assert arguments(model, {"when": "2026-01-02T03:04:05Z", "order": {"lines": [1]}}) == {
        "when": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        "order": Order(lines=[1]),
    }
    with pytest.raises(InvalidParams, match=r"params\.when: .*; params\.order: .*"):
        arguments(model, {"when": "then", "order": 1})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("@action('A')\ndef f(): ...", 'm.py:2: action: "A" cannot be a name'),
        ("@action('a')\ndef f(*items): ...", "m.py:2: the parameter items has no name to be given by"),
        ("@action('a')\ndef f(x, /): ...", "m.py:2: the parameter x has no name to be given by"),
        ("@action('a')\ndef f(x: 'Absent'): ...", "m.py:2: the annotations cannot be resolved (name 'Absent'"),
        ("@action('a')\ndef f(x: type): ...", "m.py:2: the annotations have no JSON Schema"),
        ("@action('a')\ndef f(x: slice): ...", "m.py:2: the annotations have no JSON Schema"),
        ("class X: ...\n@action('a')\ndef f(x: X): ...", "m.py:3: the annotations have no JSON Schema"),
        (
            "@action('a', retry={'max_atempts': 1})\ndef f(): ...",
            "m.py:2: retry.max_atempts: unknown field; did you mean",
        ),
        ("@action('a', params={'requierd': ['x']})\ndef f(): ...", "m.py:2: params.requierd: unknown keyword; did you"),
        ("@action('a', pool='relay')\ndef f(): ...", 'm.py:2: pool: the pool name "relay" is reserved'),
        ("def g():\n  @action('a')\n  def f(): ...\ng()", "m.py:3: g.<locals>.f is not at the top of a module"),
        ("action('a')(print)", "@action is for functions, not for <built-in function print>"),
    ],
)
def test_a_function_that_cannot_be_an_action_is_refused_with_its_line(source: str, text: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        module("m", f"from interlock import action\n{source}")
    assert str(caught.value).startswith(text)


def test_collecting_finds_the_functions_that_a_module_defines_itself() -> None:
    first = module("first", "from interlock import action\n\n@action('a')\nasync def f(): ...\n\nalias = f\n")
    second = module("second", "def plain(): ...\n")
    vars(second)["borrowed"] = vars(first)["f"]
    assert [(each.action.action, each.action.function, each.place) for each in collect([first, second])] == [
        ("a", "first:f", "first.py:3")
    ]


def test_two_functions_under_one_name_are_refused_with_both_places() -> None:
    source = "from interlock import action\n@action('a')\ndef f(): ...\n@action('a')\ndef g(): ...\n"
    with pytest.raises(InvalidDefinition) as caught:
        collect([module("m", source)])
    assert str(caught.value) == "m.py:4: the action a is already defined at m.py:2; rename or remove one"


def test_an_attribute_that_the_decorator_did_not_set_is_refused() -> None:
    forged = module("m", f"def f(): ...\nf.{ATTRIBUTE} = 'a'\n")
    with pytest.raises(TypeError, match="only @action sets it"):
        collect([forged])


def test_importing_interlock_imports_no_library() -> None:
    probe = (
        "import interlock, sys; print('pydantic' in sys.modules); interlock.action; print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_an_export_that_does_not_exist_is_an_attribute_error() -> None:
    assert not hasattr(interlock, "acton")
