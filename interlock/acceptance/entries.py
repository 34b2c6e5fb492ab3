"""What a name stands for: one version of an action, or of a batch, with its schema compiled. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from interlock.acceptance.candidates import LaneKey

if TYPE_CHECKING:
    from interlock.actions.validation import Schema
    from interlock.contract.batches import Batch
    from interlock.contract.definitions import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One version of one action."""

    action: Action
    version: int
    withdrawn: bool
    schema: Schema
    _shared: dict[str, tuple[LaneKey, ...]] = field(default_factory=dict, compare=False, init=False)

    def keys_in(self, pool: str) -> tuple[LaneKey, ...]:
        """The keys that all its executions in this pool have; made once."""
        shared = self._shared.get(pool)
        if shared is None:
            own = LaneKey("leaf", self.action.own_key, self.action.own_key, self.action)
            shared = self._shared[pool] = (own, LaneKey("pool", pool))
        return shared


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEntry:
    """One version of one batch; `version` is None where the request brought the definition itself."""

    batch: Batch
    version: int | None
    withdrawn: bool
    schema: Schema
