"""A definition together with where it was written, so that every complaint about it can say so. Reads no file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from interlock.actions.partitions import check_batch
from interlock.actions.problems import Problem, translate
from interlock.actions.rendering import check_action
from interlock.actions.validation import check_schema
from interlock.contract.batches import Batch
from interlock.contract.definitions import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ARTICLES = {"action": "an action", "batch": "a batch"}


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A usable action or batch, the file it was found in and the line (from 1) where it begins."""

    content: Action | Batch
    file: str
    line: int

    @property
    def kind(self) -> Literal["action", "batch"]:
        """What is defined."""
        return "action" if isinstance(self.content, Action) else "batch"

    @property
    def action(self) -> Action:
        """The action. Raises TypeError for another kind."""
        if not isinstance(self.content, Action):
            raise TypeError(f"{self.place} defines the batch {self.content.name}, not an action")
        return self.content

    @property
    def place(self) -> str:
        """Where it was written: `file:line`."""
        return f"{self.file}:{self.line}"


def examine(raw: object) -> Action | list[Problem]:
    """Return the action that `raw`, a mapping as it was written, describes; or every problem that it has.

    Examined are the fields, the JSON Schema of the parameters and each template. No function is imported, no program
    looked for: they belong to workers, which may be elsewhere.
    """
    if not isinstance(raw, dict):
        return [Problem((), "an action is a mapping of fields, beginning with `action: name`")]
    try:
        action = Action.model_validate(raw)
    except ValidationError as error:
        return translate(error, raw)
    problems = [Problem(("params", *problem.path), problem.message) for problem in check_schema(action.params)]
    # A template cannot be held against a schema that is itself in doubt.
    return problems or check_action(action) or action


def examine_batch(raw: Mapping[str, object]) -> Batch | list[Problem]:
    """Return the batch that `raw` describes, or every problem that it has; as `examine` does.

    Whether the actions that it names exist is not known here.
    """
    try:
        batch = Batch.model_validate(raw)
    except ValidationError as error:
        return translate(error, raw, Batch)
    problems = [Problem(("params", *problem.path), problem.message) for problem in check_schema(batch.params)]
    return problems or check_batch(batch) or batch


def examine_document(raw: object) -> Action | Batch | list[Problem]:
    """Return what a document defines, told by whether it has the field `action` or `batch`; or its problems."""
    if not isinstance(raw, dict):
        return examine(raw)
    if "action" in raw and "batch" in raw:
        return [Problem(("batch",), "a document defines an action or a batch, not both; put `---` between the two")]
    # Without either it is what it looks like; that its name is missing is among the problems then.
    is_batch = "action" not in raw and ("batch" in raw or {"run", "partition"} & raw.keys())
    return examine_batch(raw) if is_batch else examine(raw)


def actions_of(definitions: Iterable[Definition]) -> list[Action]:
    """Return the actions among `definitions`."""
    return [each.content for each in definitions if isinstance(each.content, Action)]


def duplicates(definitions: Iterable[Definition]) -> list[tuple[Definition, Definition]]:
    """Return the pairs (first, later one) that share a name, in the order given."""
    first: dict[str, Definition] = {}
    return [
        (earlier, definition)
        for definition in definitions
        if (earlier := first.setdefault(definition.content.name, definition)) is not definition
    ]


def disagreements(actions: Iterable[Action]) -> list[str]:
    """Return a line for each key that two actions name and bound differently: it is one key, and has one limit."""
    first: dict[str, Action] = {}
    lines = []
    for action in actions:
        for name, bounds in action.bounds().items():
            other = first.setdefault(name, action)
            if other.bounds()[name].columns() != bounds.columns():
                lines.append(
                    f'the key "{name}" is bounded differently in {other.action} and {action.action}; '
                    "it is one key: give it the same limit, rate and cap in both"
                )
    return lines


def repeats(definitions: Iterable[Definition]) -> list[str]:
    """Return a line for each definition whose name an earlier one has, of whatever kind, naming both places."""
    return [
        f"{later.place}: the {later.kind} {later.content.name} is already defined at {first.place}"
        f"{'' if first.kind == later.kind else f', as {_ARTICLES[first.kind]}'}; rename or remove one"
        for first, later in duplicates(definitions)
    ]
