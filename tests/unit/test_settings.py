"""Settings: what is accepted, what is refused, and that the refusal helps without telling secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from executor.settings import Settings as ExecutorSettings
from interlock.contract.errors import Misconfigured
from interlock.environment import KNOWN
from interlock.settings import Client, Shared, Surroundings, load, surroundings
from worker.settings import Settings as WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"  # noqa: S105 - made up, to be looked for in what is shown
URLS = {
    "INTERLOCK_DATABASE_URL": f"postgresql://interlock:{SECRET}@db/interlock",
    "INTERLOCK_AMQP_URL": f"amqp://interlock:{SECRET}@broker/",
}


def refusal(cls: type[Shared], config: Path | None = None, /, **changes: str) -> list[str]:
    """Load what must be refused and return its lines; the URLs are good unless changed."""
    with pytest.raises(Misconfigured) as refused:
        load(cls, config, URLS | {f"INTERLOCK_{name}": value for name, value in changes.items()})
    return str(refused.value).splitlines()


def test_defaults_are_those_the_documentation_promises() -> None:
    executor, worker = load(ExecutorSettings, environ=URLS), load(WorkerSettings, environ=URLS)
    assert (executor.http, worker.http) == ("127.0.0.1:8480", None)
    assert (worker.lease, worker.renew, worker.guardian, worker.drain) == (25.0, 4.0, 15.0, 30.0)
    assert (executor.reconcile, executor.reaper, executor.timers, executor.sweep) == (4.0, 3.0, 0.25, 0.5)
    assert (worker.pool, worker.concurrency, worker.functions, worker.http_allow) == ("default", 32, (), ())


def test_every_field_has_a_known_variable_and_every_variable_a_field() -> None:
    fields = {name for cls in (Client, ExecutorSettings, WorkerSettings) for name in cls.model_fields}
    expected = {f"INTERLOCK_{field.upper()}" for field in fields}
    assert expected | {"INTERLOCK_DATABASE_URL_FILE", "INTERLOCK_AMQP_URL_FILE"} == KNOWN


def test_lists_are_split_at_commas() -> None:
    environ = URLS | {"INTERLOCK_FUNCTIONS": "shop.jobs, shop.mail", "INTERLOCK_HTTP_ALLOW": "Intra.example,10.0.0.0/8"}
    settings = load(WorkerSettings, environ=environ)
    assert settings.functions == ("shop.jobs", "shop.mail")
    assert settings.http_allow == ("intra.example", "10.0.0.0/8")


def test_an_unknown_variable_is_refused_with_the_nearest_known_one() -> None:
    assert refusal(WorkerSettings, CONCURENCY="4") == [
        "INTERLOCK_CONCURENCY: unknown, found in the environment; did you mean INTERLOCK_CONCURRENCY?"
    ]


def test_an_unknown_variable_that_resembles_none_is_answered_with_all_of_them() -> None:
    (line,) = refusal(ExecutorSettings, XYZZYXYZ="1")
    assert line.startswith("INTERLOCK_XYZZYXYZ: unknown, found in the environment; known are INTERLOCK_ACTIONS, ")
    assert all(name in line for name in KNOWN)


def test_a_variable_of_another_process_is_accepted() -> None:
    assert load(ExecutorSettings, environ=URLS | {"INTERLOCK_GUARDIAN": "9"}).drain == 30.0


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("CONCURRENCY", "0", "should be greater than or equal to 1, got '0' (example: INTERLOCK_CONCURRENCY=32)"),
        (
            "CONCURRENCY",
            "10001",
            "should be less than or equal to 10000, got '10001' (example: INTERLOCK_CONCURRENCY=32)",
        ),
        ("LOG", "xml", "should be 'console' or 'json', got 'xml' (example: INTERLOCK_LOG=json)"),
        ("LEASE", "inf", "should be a finite number, got 'inf' (example: INTERLOCK_LEASE=4)"),
        ("DRAIN", "-1", "should be greater than or equal to 0, got '-1' (example: INTERLOCK_DRAIN=30)"),
        ("POOL", "relay", "is a reserved name, choose another, got 'relay' (example: INTERLOCK_POOL=default)"),
        (
            "HTTP",
            "::1:80",
            (
                "must have its IPv6 address in brackets, as in [::1]:8480, "
                "got '::1:80' (example: INTERLOCK_HTTP=127.0.0.1:8480)"
            ),
        ),
        (
            "FUNCTIONS",
            "a-b",
            "'a-b' is not the name of a Python module, got 'a-b' (example: INTERLOCK_FUNCTIONS=shop.jobs,shop.mail)",
        ),
        (
            "HTTP_ALLOW",
            "10.0.0.1/8",
            (
                "'10.0.0.1/8' is neither a host name nor an address nor a network (its host bits must be zero), "
                "got '10.0.0.1/8' (example: INTERLOCK_HTTP_ALLOW=intranet.example,10.1.0.0/16)"
            ),
        ),
    ],
)
def test_a_wrong_value_is_explained_in_one_line_with_an_example(name: str, value: str, line: str) -> None:
    assert refusal(WorkerSettings, None, **{name: value}) == [f"INTERLOCK_{name}: {line}"]


@pytest.mark.parametrize("address", ["80", ":80", "host:", "host:http", "host:65536", "host:-1", "host:²"])
def test_an_address_needs_a_host_and_a_port(address: str) -> None:
    (line,) = refusal(ExecutorSettings, HTTP=address)
    assert line.startswith("INTERLOCK_HTTP: must be host:port ")


def test_three_renewals_must_fit_into_the_lease() -> None:
    assert load(ExecutorSettings, environ=URLS | {"INTERLOCK_LEASE": "25", "INTERLOCK_RENEW": "8.3"}).renew == 8.3
    assert refusal(ExecutorSettings, LEASE="24", RENEW="8") == [
        "INTERLOCK_RENEW: 3 x 8 s must be less than INTERLOCK_LEASE, which is 24 s"
    ]


def test_the_guardian_and_its_kill_must_fit_into_the_lease() -> None:
    assert load(WorkerSettings, environ=URLS | {"INTERLOCK_GUARDIAN": "20"}).guardian == 20.0
    assert refusal(WorkerSettings, GUARDIAN="20.5") == [
        "INTERLOCK_GUARDIAN: 20.5 + 5 s must not exceed INTERLOCK_LEASE, which is 25 s"
    ]


def test_containment_is_one_of_three_words_in_any_case() -> None:
    assert load(WorkerSettings, environ=URLS).containment == "auto"
    assert load(WorkerSettings, environ=URLS | {"INTERLOCK_CONTAINMENT": "CGroup"}).containment == "cgroup"
    [line] = refusal(WorkerSettings, CONTAINMENT="docker")
    assert line.startswith("INTERLOCK_CONTAINMENT: ")
    assert line.endswith("got 'docker' (example: INTERLOCK_CONTAINMENT=cgroup)")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(Misconfigured) as refused:
        load(WorkerSettings, environ={"INTERLOCK_POOl": "x", "INTERLOCK_RENEW": "x"})
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        "INTERLOCK_POOl",
        "INTERLOCK_DATABASE_URL",
        "INTERLOCK_AMQP_URL",
        "INTERLOCK_RENEW",
    ]


def test_a_missing_url_is_named_with_an_example_and_its_file_variant() -> None:
    assert refusal(ExecutorSettings, AMQP_URL="") == [
        "INTERLOCK_AMQP_URL: not set, or INTERLOCK_AMQP_URL_FILE (example: INTERLOCK_AMQP_URL=amqp://interlock@localhost/)"
    ]


def test_secrets_appear_neither_in_a_repr_nor_in_a_refusal() -> None:
    assert SECRET not in repr(load(ExecutorSettings, environ=URLS))
    lines = refusal(ExecutorSettings, DATABASE_URL=f"mysql://u:{SECRET}@db/x", AMQP_URL=SECRET, RENEW="x")
    assert len(lines) == 3
    assert SECRET not in "".join(lines)


def test_a_refusal_carries_no_chained_error_that_could_tell_a_secret() -> None:
    with pytest.raises(Misconfigured) as refused:
        load(ExecutorSettings, environ={"INTERLOCK_DATABASE_URL": SECRET})
    assert refused.value.__suppress_context__


def test_a_secret_comes_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://from-a-file/interlock\n")
    environ = {"INTERLOCK_DATABASE_URL_FILE": str(file), "INTERLOCK_AMQP_URL": URLS["INTERLOCK_AMQP_URL"]}
    settings = load(ExecutorSettings, environ=environ)
    assert settings.database_url.get_secret_value() == "postgresql://from-a-file/interlock"


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    assert refusal(ExecutorSettings, AMQP_URL_FILE=str(tmp_path / "url")) == [
        "INTERLOCK_AMQP_URL: given twice, also as INTERLOCK_AMQP_URL_FILE; keep one of the two"
    ]


def test_a_secret_file_that_cannot_be_read_is_one_problem_not_two(tmp_path: Path) -> None:
    file = tmp_path / "gone"
    assert refusal(ExecutorSettings, AMQP_URL="", AMQP_URL_FILE=str(file)) == [
        f"INTERLOCK_AMQP_URL_FILE: {file} cannot be read: No such file or directory"
    ]


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "interlock.env"
    config.write_text('# a comment\n; another\n\nINTERLOCK_POOL="slow"\nINTERLOCK_CONCURRENCY = 7\n')
    settings = load(WorkerSettings, config, URLS | {"INTERLOCK_CONCURRENCY": "9"})
    assert (settings.pool, settings.concurrency) == ("slow", 9)


def test_a_bad_line_of_the_file_is_named_by_its_number(tmp_path: Path) -> None:
    config = tmp_path / "interlock.env"
    config.write_text("INTERLOCK_POOL=slow\nPOOL=slow\nINTERLOCK_POOL\nINTERLOCK_POOLS=slow\n")
    wanted = "expected INTERLOCK_NAME=value (example: INTERLOCK_CONCURRENCY=32)"
    assert refusal(WorkerSettings, config) == [
        f"{config}:2: {wanted}",
        f"{config}:3: {wanted}",
        f"INTERLOCK_POOLS: unknown, found in {config}; did you mean INTERLOCK_POOL?",
    ]


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "gone.env"
    assert refusal(WorkerSettings, config) == [f"--config {config}: cannot be read: No such file or directory"]


def test_the_command_line_needs_no_urls_until_a_command_says_so() -> None:
    client = load(Client, environ={})
    assert (client.database_url, client.amqp_url, client.prefix) == (None, None, "interlock")


def test_surroundings_are_what_terminal_and_systemd_say() -> None:
    told = {"NO_COLOR": "1", "NOTIFY_SOCKET": "@interlock", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}
    assert surroundings(told) == Surroundings(no_color=True, notify_socket="@interlock", watchdog=30.0)
    assert surroundings({}) == Surroundings(no_color=False, notify_socket=None, watchdog=None)
