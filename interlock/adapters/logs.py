"""Log lines on standard error: for people on a terminal, one JSON object a line anywhere else.

Owns structlog's configuration and routes the standard library's loggers through it. Must not decide what is logged.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Final, Literal, cast

import orjson
import structlog

from interlock.settings import surroundings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

QUIET_LIBRARIES: Final = ("uvicorn", "aio_pika", "httpx", "httpcore")
"""Libraries whose `info` is about themselves: only their warnings reach the operator, unless the level is debug."""
MUTE_LIBRARIES: Final = ("aiormq", "asyncpg")
"""Libraries that log what they also raise: our adapters say it once, in our words, unless the level is debug."""


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a lazy logger for the module `name`; it may be made at import, before `configure`."""
    return cast("FilteringBoundLogger", structlog.get_logger(module=name))


def configure(format: Literal["console", "json"] | None, level: str, **bound: object) -> None:  # noqa: A002 - the setting's name
    """Set up logging of this process, once, before the first line. `bound` is added to every line of the process.

    A `format` of None means console on a terminal and JSON otherwise; colours only on a terminal, never with NO_COLOR.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    on_terminal = sys.stderr.isatty()
    as_json = format == "json" or (format is None and not on_terminal)
    shared = _processors(bound)
    rendering = _json_rendering() if as_json else _console_rendering(colours=on_terminal)
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    _route_standard_library(threshold, shared, rendering)


def flush() -> None:
    """Hand every line written so far to the operating system, for an exit that runs no finalizers."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stderr.flush()


def _processors(bound: dict[str, object]) -> list[Processor]:
    def add_bound(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**bound, **event}

    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp")
    return [structlog.stdlib.add_log_level, stamp, *([add_bound] if bound else [])]


def _json_rendering() -> list[Processor]:
    # The traceback as plain text: structured tracebacks would carry local variables, and secrets with them.
    return [structlog.processors.StackInfoRenderer(), structlog.processors.format_exc_info, _to_json]


def _console_rendering(*, colours: bool) -> list[Processor]:
    return [
        structlog.processors.StackInfoRenderer(),
        structlog.dev.ConsoleRenderer(
            colors=colours and not surroundings().no_color,
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:  # lone surrogates (file names) and huge integers: slower, but never lost
        return json.dumps({str(key): value for key, value in event.items()}, default=repr)


def _route_standard_library(threshold: int, shared: Sequence[Processor], rendering: Sequence[Processor]) -> None:
    def add_module(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {**event, "module": event["_record"].name}

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[add_module, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(threshold if threshold <= logging.DEBUG else max(threshold, logging.WARNING))
    for name in MUTE_LIBRARIES:
        logging.getLogger(name).setLevel(threshold if threshold <= logging.DEBUG else logging.CRITICAL)
    logging.captureWarnings(capture=True)
