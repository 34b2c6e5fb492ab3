"""A folder of YAML files as definitions: every problem of every file, reported at once. Registers nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interlock.actions.definition import Definition, examine_document, repeats
from interlock.actions.documents import Located, read_documents
from interlock.actions.problems import Problem
from interlock.contract.errors import InvalidDefinition

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST_FILE = 1_048_576
_SUFFIXES = frozenset({".yaml", ".yml"})


def load(folder: Path) -> list[Definition]:
    """Return the definitions in the `*.yaml` and `*.yml` files of `folder`, by file name and line.

    Hidden files and folders below it are not read; a file holds one document per action or batch. Raises
    InvalidDefinition with all problems, one per line as `file:line: message`, if there is any.
    """
    if not folder.is_dir():
        raise InvalidDefinition(f"{folder}: there is no such folder of action definitions; create it, or name another")
    definitions: list[Definition] = []
    problems: list[str] = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.name[0] != "."):
        found, located = _read(path)
        definitions += found
        problems += [f"{path}:{line}: {problem}" for line, problem in sorted(located, key=lambda each: each.line)]
    problems += repeats(definitions)
    if problems:
        raise InvalidDefinition("\n".join(problems))
    return definitions


def load_file(path: Path) -> list[Definition]:
    """Return the definitions in one file. Raises InvalidDefinition as `load` does."""
    definitions, located = _read(path)
    problems = [f"{path}:{line}: {problem}" for line, problem in sorted(located, key=lambda each: each.line)]
    if problems := problems + repeats(definitions):
        raise InvalidDefinition("\n".join(problems))
    return definitions


def _read(path: Path) -> tuple[list[Definition], list[Located]]:
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        return [], [Located(1, Problem((), f"cannot be read: {error.strerror}; repair it or move it away"))]
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return [], [Located(line, Problem((), "the file is not UTF-8 text; save it as UTF-8"))]
    if len(content) > _LARGEST_FILE:
        return [], [Located(1, Problem((), "the file is larger than 1 MiB; split it"))]
    documents, located = read_documents(text)
    definitions = []
    for document in documents:
        located += document.problems
        examined = examine_document(document.value)
        if isinstance(examined, list):
            known = {problem.path for _, problem in document.problems}
            located += [Located(document.line_of(p.path), p) for p in examined if p.path not in known]
        elif not document.problems:
            definitions.append(Definition(content=examined, file=str(path), line=document.line))
    return definitions, located
