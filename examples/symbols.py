"""Counts what a Python file defines and imports: a function action, as any importable function can be one.

A worker runs it when INTERLOCK_FUNCTIONS allows `examples.symbols`; `actions/symbols.yaml` gives it a name. It is not
`async`, so it runs in one of the worker's threads.
"""

from __future__ import annotations

import ast
from pathlib import Path
from threading import Lock
from typing import Final

# Before 3.13, Python counts the depth of trees in one place for all threads: of two that parse at once, one may get a
# SystemError about a recursion depth.
PARSING: Final = Lock()


def count(path: str) -> dict[str, int]:
    """Return how many functions, classes and imports the Python file `path` holds, nested ones included.

    What it raises (OSError, SyntaxError) becomes the error of the execution, under the exception's own name.
    """
    source = Path(path).read_bytes()
    with PARSING:
        nodes = list(ast.walk(ast.parse(source, filename=path)))
    return {
        "functions": sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes),
        "classes": sum(isinstance(node, ast.ClassDef) for node in nodes),
        "imports": sum(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes),
    }
