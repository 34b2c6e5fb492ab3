"""What a name stands for: one version of an action, or of a batch, with its schema compiled. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interlock.acceptance.candidates import LaneKey
    from interlock.actions.validation import Schema
    from interlock.contract.batches import Batch
    from interlock.contract.definitions import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One version of one action. `shared_keys` remembers, by pool, the keys that all its executions have."""

    action: Action
    version: int
    withdrawn: bool
    schema: Schema
    shared_keys: dict[str, tuple[LaneKey, ...]] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEntry:
    """One version of one batch; `version` is None where the request brought the definition itself."""

    batch: Batch
    version: int | None
    withdrawn: bool
    schema: Schema
