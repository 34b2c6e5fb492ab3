"""Definitions from decorated functions: imports the modules that the user names. Reads no file and no database."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from interlock.actions.decorators import collect
from interlock.contract.errors import InvalidDefinition

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from interlock.actions.definition import Definition


def load_modules(names: Iterable[str]) -> list[Definition]:
    """Return the definitions of the functions that these modules decorate with `@action`.

    Modules are looked for in the current folder too. Raises InvalidDefinition for one that cannot be imported.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")
    return collect(_module(name) for name in names)


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, SyntaxError, ValueError) as error:
        text = f"{name}: the module cannot be imported ({error}); is it installed, or in this folder?"
        raise InvalidDefinition(text) from error
