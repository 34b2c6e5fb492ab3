"""The error tree, split by what a consumer must do with what it was handling.

    InterlockError
    ├── Poison            park the message, acknowledge it, go on: handling it again cannot help
    │   ├── Malformed         bytes that are not what the contract says
    │   └── Conflict          an id or idempotency key that belongs to other content
    ├── Transient         nothing was decided: do the whole flush again
    ├── Unavailable       a service cannot be reached: daemons exit with 69
    ├── Misconfigured     a setting, schema or definition is wrong: daemons exit with 78
    │   └── InvalidDefinition
    └── Refused           what a user asked for cannot be accepted; the refusal is visible as a row
        ├── UnknownAction
        └── InvalidParams

Everything else that is raised is a bug: it ends the delivery that met it, loudly.
"""

from __future__ import annotations


class InterlockError(Exception):
    """Root of everything that Interlock raises on purpose."""


class Poison(InterlockError):
    """A message that can never be handled; `reason` is the word it is parked under."""

    reason = "poison"


class Malformed(Poison):
    """Bytes or fields that break the contract: wrong type, wrong shape, too large."""

    reason = "malformed"

    def __init__(self, message: str, reason: str = "malformed") -> None:
        super().__init__(message)
        self.reason = reason


class Conflict(Poison):
    """A known id, or a known idempotency key, with content that differs from what was accepted."""

    def __init__(self, message: str, reason: str = "conflict") -> None:
        super().__init__(message)
        self.reason = reason


class Transient(InterlockError):
    """A database or broker error that says nothing about the data: repeat the flush whole."""


class Unavailable(InterlockError):
    """A service cannot be reached. The text names the service and its address, without secrets."""


class Misconfigured(InterlockError):
    """Settings, schema or definitions that no retry will repair."""


class InvalidDefinition(Misconfigured):
    """An action definition that cannot be used; the text names the file, the line and what to do."""


class Refused(InterlockError):
    """A request that becomes a `failed` row. `code` is stable and machine-readable."""

    code = "refused"


class UnknownAction(Refused):
    """No definition of that name is registered, or it was withdrawn."""

    code = "unknown_action"


class InvalidParams(Refused):
    """The parameters do not fit the action's JSON Schema; the text names the field."""

    code = "invalid_params"
