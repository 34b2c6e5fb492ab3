"""What is shipped beside the code: units, image, compose file and the page about them agree with the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from executor.settings import Settings as ExecutorSettings
from interlock.environment import KNOWN
from interlock.settings import Client
from worker.settings import Settings as WorkerSettings

REPOSITORY = Path(__file__).parents[2]
UNITS = sorted((REPOSITORY / "deploy" / "systemd").glob("*.service"))
EXECUTOR_EXPOSURE = 2.0
WORKER_EXPOSURE = 4.0


def directives(unit: Path) -> dict[str, list[str]]:
    """Return every directive of a unit with its values in order."""
    found = defaultdict(list)
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and re.fullmatch("[A-Za-z]+", name):
            found[name].append(value)
    return found


def seconds(span: str) -> float:
    """Read the one form of time span our files use: a number, perhaps with an s behind it."""
    return float(span.removesuffix("s"))


@pytest.fixture
def installed_units(tmp_path: Path) -> list[Path]:
    """Copies of the units whose program exists on this machine; nothing else is changed."""
    copies = []
    for unit in UNITS:
        copy = tmp_path / unit.name
        copy.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", unit.read_text(), flags=re.MULTILINE))
        copies.append(copy)
    return copies


def test_there_is_a_unit_for_each_daemon() -> None:
    assert [unit.name for unit in UNITS] == ["interlock-executor.service", "interlock-worker@.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_keeps_the_promises_of_the_daemon(unit: Path) -> None:
    said = directives(unit)
    program = "worker" if "worker" in unit.name else "executor"
    settings = WorkerSettings if program == "worker" else ExecutorSettings
    assert said["ExecStart"] == [f"/opt/interlock/bin/interlock-{program}"]
    assert said["Type"] == ["notify"]
    assert said["NotifyAccess"] == ["all" if program == "worker" else "main"]
    assert said["KillMode"] == ["mixed"]
    assert said["WatchdogSec"] == ["30"]
    # A drained worker stays down: it would take work again before anybody could do what it was drained for.
    assert said["Restart"] == ["on-failure" if program == "worker" else "always"]
    assert said["RestartPreventExitStatus"] == ["78"]
    assert seconds(said["TimeoutStopSec"][0]) > settings.model_fields["drain"].default


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_takes_its_secrets_as_credentials_and_sets_only_known_variables(unit: Path) -> None:
    said = directives(unit)
    assert said["LoadCredential"] == ["database_url:/etc/interlock/database_url", "amqp_url:/etc/interlock/amqp_url"]
    names = {pair.partition("=")[0] for line in said["Environment"] for pair in line.split()}
    assert {"INTERLOCK_DATABASE_URL_FILE", "INTERLOCK_AMQP_URL_FILE"} <= names <= KNOWN


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_without_privileges(unit: Path) -> None:
    said = directives(unit)
    for name in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "RestrictSUIDSGID"):
        assert said[name] == ["yes"], name
    assert said["ProtectSystem"] == ["strict"]
    assert said["CapabilityBoundingSet"] == [""]
    assert "User" not in said


def test_systemd_accepts_the_units_and_calls_them_hardened(installed_units: list[Path]) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:  # a machine without systemd: what the units say is checked by the tests above
        assert all(len(directives(unit)) > 30 for unit in UNITS)
        return
    verdict = subprocess.run(
        [analyze, "verify", "--man=no", *installed_units], capture_output=True, text=True, check=False, timeout=60
    )
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")
    for unit, allowed in zip(installed_units, (EXECUTOR_EXPOSURE, WORKER_EXPOSURE), strict=True):
        report = subprocess.run(
            [analyze, "security", "--no-pager", "--offline=true", unit],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        exposure = re.search(r"Overall exposure level for \S+ ([0-9.]+)", report.stdout)
        assert exposure is not None, report.stdout + report.stderr
        assert float(exposure[1]) <= allowed, report.stdout


def test_the_example_of_an_environment_file_is_accepted_and_holds_no_secret() -> None:
    lines = (REPOSITORY / "deploy" / "systemd" / "interlock.env.example").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines if not line.startswith("#")}
    assert names <= KNOWN
    assert not {name for name in names if "URL" in name}


def test_hadolint_has_nothing_to_say_about_the_image() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or "hadolint"
    verdict = subprocess.run(
        [hadolint, "--no-color", REPOSITORY / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


def test_the_image_runs_unprivileged_under_an_init_and_is_asked_where_it_listens() -> None:
    text = (REPOSITORY / "Dockerfile").read_text()
    assert "\nUSER 10001:10001\n" in text
    assert 'ENTRYPOINT ["/usr/bin/tini", "--"]' in text
    port = re.search(r"INTERLOCK_HTTP=0\.0\.0\.0:(\d+)", text)
    assert port is not None
    assert f"http://127.0.0.1:{port[1]}/livez" in text
    assert f"EXPOSE {port[1]}" in text


def compose() -> dict[str, Any]:
    """Return the services of the compose file, merges resolved."""
    loaded: dict[str, Any] = YAML(typ="safe").load(REPOSITORY / "compose.yaml")
    return dict(loaded["services"])


def test_compose_starts_the_daemons_only_on_a_migrated_database() -> None:
    services = compose()
    for name in ("executor", "worker"):
        waits = {other: how["condition"] for other, how in services[name]["depends_on"].items()}
        assert waits == {
            "migrate": "service_completed_successfully",
            "postgres": "service_healthy",
            "rabbitmq": "service_healthy",
        }


def test_compose_publishes_the_executor_on_the_loopback_and_nothing_else() -> None:
    ports = {name: service["ports"] for name, service in compose().items() if "ports" in service}
    assert ports == {"executor": ["127.0.0.1:8480:8480"]}


def test_compose_runs_ours_read_only_without_capabilities_and_with_time_to_drain() -> None:
    services = compose()
    for name in ("migrate", "executor", "worker"):
        service = services[name]
        assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])  # noqa: S108 - in the container
        assert set(service["environment"]) <= KNOWN
        assert seconds(service["stop_grace_period"]) > ExecutorSettings.model_fields["drain"].default


def test_every_setting_is_documented_with_its_default() -> None:
    page = (REPOSITORY / "docs" / "deployment.md").read_text()
    rows = dict(re.findall(r"^\| `(INTERLOCK_\w+)` \| ([^|]*?) *\|", page, flags=re.MULTILINE))
    assert set(rows) == KNOWN
    for cls in (Client, ExecutorSettings, WorkerSettings):
        for field, info in cls.model_fields.items():
            if isinstance(info.default, int | float | str):
                default = f"{info.default:g}" if isinstance(info.default, float) else str(info.default)
                assert f"`{default}`" in rows[f"INTERLOCK_{field.upper()}"], field
