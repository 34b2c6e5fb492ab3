"""Log lines as another process sees them: each test configures a process of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]


def program(body: str, configure: str = "None, 'info', service='worker'") -> list[str]:
    """Return the command that configures logging, then runs `body` with a logger `log`."""
    head = f"from interlock.adapters import logs\nlog = logs.get_logger('tests.here')\nlogs.configure({configure})\n"
    return [sys.executable, "-c", head + body]


def logged(body: str, configure: str = "None, 'info', service='worker'") -> list[dict[str, Any]]:
    """Run `body` and return its log lines, which must be JSON, one object a line, on standard error only."""
    done = subprocess.run(
        program(body, configure), cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def on_terminal(body: str, configure: str = "None, 'info'", **environ: str) -> str:
    """Run `body` with a terminal as its standard error and return what the terminal shows."""
    ours, theirs = pty.openpty()
    env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM", "FORCE_COLOR")}
    with subprocess.Popen(
        program(body, configure), cwd=REPOSITORY, stderr=theirs, env=env | {"TERM": "xterm"} | environ
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # how a terminal whose other side has closed ends on Linux
            process.wait(30)
        finally:
            os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_a_line_off_the_terminal_is_json_with_its_level_module_bound_names_and_utc_time() -> None:
    (line,) = logged("log.info('claimed', executions=3)")
    at = datetime.fromisoformat(line.pop("timestamp"))
    assert at.tzinfo == UTC
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert line == {"event": "claimed", "executions": 3, "level": "info", "module": "tests.here", "service": "worker"}


def test_libraries_speak_through_the_same_lines() -> None:
    (line,) = logged("import logging\nlogging.getLogger('aio_pika').warning('connection %s', 'lost')")
    line.pop("timestamp")
    assert line == {"event": "connection lost", "level": "warning", "module": "aio_pika", "service": "worker"}


def test_python_warnings_become_lines() -> None:
    (line,) = logged("import warnings\nwarnings.warn('odd', stacklevel=1)")
    assert (line["module"], line["level"]) == ("py.warnings", "warning")
    assert "odd" in line["event"]


def test_what_lies_below_the_level_is_not_written() -> None:
    body = "log.debug('no')\nlog.info('no')\nlog.warning('yes')\nimport logging\nlogging.getLogger('x').info('no')"
    assert [line["event"] for line in logged(body, "'json', 'warning'")] == ["yes"]


def test_chatty_libraries_are_heard_at_debug_only() -> None:
    body = "import logging\nlogging.getLogger('uvicorn.error').info('started')"
    assert logged(body, "'json', 'info'") == []
    assert [line["event"] for line in logged(body, "'json', 'debug'")] == ["started"]


def test_an_exception_is_text_without_the_values_of_local_variables() -> None:
    body = "secret = 'hunter' + str(2)\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('failed')"
    (line,) = logged(body)
    assert line["exception"].endswith("ZeroDivisionError: division by zero")
    assert "hunter2" not in json.dumps(line)


@pytest.mark.parametrize("value", ["'\\udc80'", "10**30", "object", "{1: {2}}"])
def test_no_value_can_make_a_line_fail(value: str) -> None:
    (line,) = logged(f"log.info('odd', value={value})")
    assert line["event"] == "odd"
    assert "value" in line


def test_a_terminal_gets_colours() -> None:
    shown = on_terminal("log.info('claimed', executions=3)")
    assert "claimed" in shown
    assert "\x1b[" in shown


def test_no_color_is_honoured() -> None:
    shown = on_terminal("log.info('claimed', executions=3)", NO_COLOR="1")
    assert "claimed" in shown
    assert "executions=3" in shown
    assert "\x1b[" not in shown


def test_json_can_be_asked_for_on_a_terminal() -> None:
    assert json.loads(on_terminal("log.info('claimed')", "'json', 'info'"))["event"] == "claimed"


def test_console_lines_can_be_asked_for_off_the_terminal() -> None:
    done = subprocess.run(
        program("log.info('claimed')", "'console', 'info'"),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "claimed" in done.stderr
    assert "\x1b[" not in done.stderr
