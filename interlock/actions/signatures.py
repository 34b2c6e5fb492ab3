"""A signature as a contract: the JSON Schema it implies, and JSON parameters as its arguments. Calls no function."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from interlock.contract.errors import InvalidDefinition, InvalidParams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import JsonValue
    from pydantic.fields import FieldInfo

CONTEXT = "context"
"""The name of the parameter that the worker fills in itself; it is no part of the contract."""


def schema_of(function: Callable[..., object]) -> dict[str, JsonValue]:
    """Return the JSON Schema of the parameters that `function` takes, from its annotations and defaults.

    A parameter without a default is required; others are refused unless the function takes `**names`. Raises
    InvalidDefinition for a signature that named JSON values cannot fill, or an annotation without a schema.
    """
    model = arguments_model(function)
    try:
        schema: dict[str, JsonValue] = model.model_json_schema()
    except PydanticUserError as error:
        raise InvalidDefinition(_no_schema(error)) from error
    schema.pop("title", None)
    properties = schema.setdefault("properties", {})
    for declared in properties.values() if isinstance(properties, dict) else ():
        if isinstance(declared, dict):
            declared.pop("title", None)
    schema["additionalProperties"] = model.model_config.get("extra") == "allow"
    return schema


def arguments(model: type[BaseModel], params: Mapping[str, JsonValue]) -> dict[str, object]:
    """Return keyword arguments for the function that `model` was made of, converted to the annotated types.

    `model` comes from `arguments_model`. A parameter that is not given is left out, so that the function's own default
    holds. Raises InvalidParams for parameters that do not fit.
    """
    try:
        filled = model.model_validate(dict(params))
    except ValidationError as error:
        reasons = [f"params.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise InvalidParams("; ".join(reasons)) from error
    given: dict[str, object] = {
        info.alias or name: getattr(filled, name)
        for name, info in model.model_fields.items()
        if name in filled.model_fields_set
    }
    return given | (filled.model_extra or {})


def arguments_model(function: Callable[..., object]) -> type[BaseModel]:
    """Return the model of what `function` takes, its parameter `context` left out; make it once per function.

    Raises InvalidDefinition as `schema_of` does.
    """
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise InvalidDefinition(
            f"the annotations cannot be resolved ({error}); import their types at run time, or give `params`"
        ) from error
    fields: dict[str, tuple[Any, FieldInfo]] = {}
    extra = False
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = True
        elif parameter.kind in {parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL}:
            raise InvalidDefinition(f"the parameter {name} has no name to be given by; make it a named one")
        elif name != CONTEXT:
            # Aliases, because a model's own attributes (`json`, `copy`, `_x`) cannot be field names.
            fields[f"field_{len(fields)}"] = (hints.get(name, Any), _field(name, parameter.default))
    config = ConfigDict(extra="allow" if extra else "forbid", arbitrary_types_allowed=False)
    try:
        return create_model("Parameters", __config__=config, **fields)  # type: ignore[call-overload, no-any-return]
    except PydanticUserError as error:
        raise InvalidDefinition(_no_schema(error)) from error


def _field(name: str, default: object) -> Any:  # noqa: ANN401 - what pydantic's Field returns
    if default is inspect.Parameter.empty:
        return Field(alias=name)
    if default is None or isinstance(default, str | int | float):
        return Field(default, alias=name)
    # A factory keeps values that JSON may not have out of the schema.
    return Field(default_factory=lambda: default, alias=name)


def _no_schema(error: PydanticUserError) -> str:
    return f"the annotations have no JSON Schema ({error.message.splitlines()[0]}); use JSON types, or give `params`"
