"""The benchmark's report: verdicts, plots and pages, rendered from readings that are known."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.limits import CORES, OTHERS
from bench.outcome import Outcome, Peer
from bench.readings import Reading, Readings
from bench.report import PAGE, render, table
from bench.svg import LABELS, Bar, bars
from bench.verdicts import verdicts
from bench.wording import plain, times

PAGES = Path(__file__).parents[2] / "docs" / "benchmarks"
COST: Reading = {
    "p1.transactions": 0.04,
    "p1.messages": 0.06,
    "p1.wal_bytes": 2000.0,
    "p1.cpu_us": 200.0,
    "p1.cpu_us.executor": 80.0,
    "p1.cpu_us.worker": 60.0,
    "p1.cpu_us.database": 50.0,
    "p1.cpu_us.broker": 10.0,
}
MEASURED: Reading = {
    CORES: 2.0,
    **COST,
    "p1.per_second": 8000.0,
    "f1.per_second": 5000.0,
    "f2.per_second": 16_000.0,
    "f2.cpu_us": 90.0,
    "peer.pgqueuer.per_second": 20_000.0,
    "peer.pgqueuer.enqueue_per_second": 30_000.0,
    "peer.pgqueuer.jobs": 50_000.0,
    "peer.celery.per_second": 400.0,
}


def readings(measured: Reading) -> Readings:
    found = Readings()
    found.add(measured)
    return found


def outcome(measured: Reading, peers: dict[str, Peer] | None = None) -> Outcome:
    facts = {"Kernel": "Linux 6"}
    return Outcome(date="2026-01-01", facts=facts, settings={}, readings=readings(measured), peers=peers or {})


def test_figures_that_are_measured_by_themselves_are_added_with_their_date_and_without_their_machine() -> None:
    report = outcome({CORES: 2.0, "p1.per_second": 8000.0, "p9.finished.small": 1.0})
    later = outcome({CORES: 64.0, OTHERS: 0.5, "p9.finished.small": 2.0, "p9.finished.large": 3.0})
    later.date = "2026-02-02"
    report.add(later)
    assert report.readings.rounds == {
        CORES: [2.0],
        "p1.per_second": [8000.0],
        "p9.finished.small": [2.0],
        "p9.finished.large": [3.0],
    }
    assert report.date == "2026-01-01"
    assert report.settings == {"P9": "measured by themselves on 2026-02-02"}


def test_the_limit_against_a_peer_says_what_share_of_the_bare_floor_is_asked_for() -> None:
    found = {each.what: each.limits for each in verdicts(readings(MEASURED))}
    assert found["no-ops per second, over pgqueuer"].endswith("What is asked for, 14,000/s, is 88 % of that")


def test_the_limit_of_a_reading_is_what_it_waits_for() -> None:
    batch = {"p7.partitions": 1000.0, "p7.per_second": 5000.0, "p7.cpu_us": 300.0, "p7.read_max_ms": 30.0}
    seen = {"p7.read_p50_ms": 2.0, "p7.read_p95_ms": 7.0, "p7.served_p50_ms": 0.4}
    found = {each.what: each for each in verdicts(readings({CORES: 2.0, **batch, **seen}))}
    assert found["a reading of its progress, in the median"].met
    slowest = found["the slowest reading of its progress"]
    assert not slowest.met
    assert "75 % of all processors busy" in slowest.limits
    assert slowest.limits.endswith(
        "0.4 ms in the median, as the client sees it 2.0 ms, and 7.0 ms or less in 19 of 20 cases"
    )


def test_the_limit_of_acceptance_tells_what_two_executors_make() -> None:
    one = {"p5.amqp.per_second": 20_000.0, "p5.amqp.cpu_us": 40.0, "p5.bare.per_second": 90_000.0}
    one["p5.amqp.cpu_us.executor"] = 25.0
    two = {"p5.two.per_second": 32_000.0, "p5.two.cpu_us": 50.0}
    found = verdicts(readings({CORES: 2.0, **one, **two}))
    assert [(each.found, each.met) for each in found] == [("20,000/s", False), ("160 %", None)]
    assert "and uses 50 % of its processor" in found[0].limits
    assert found[0].limits.endswith("32,000/s at 50 µs for each, which is 80 % of all processors, without the sender")


def test_a_target_is_judged_only_when_all_that_it_needs_was_measured() -> None:
    assert verdicts(readings({CORES: 2.0})) == []
    found = {(each.figure, each.found): each.met for each in verdicts(readings(MEASURED))}
    assert found == {
        ("P1", "0.40 x"): False,
        ("P1", "20 x"): True,
        ("P1", "160 %"): None,
        ("P1", "50 %"): None,
        ("P8", "0.040"): True,
        ("P8", "0.060"): False,
        ("P8", "200 µs"): False,
        ("P8", "2,000"): None,
    }


def test_what_was_missed_is_explained_by_measured_parts_and_what_was_met_is_not() -> None:
    for each in verdicts(readings(MEASURED)):
        assert bool(each.limits) == (each.met is False)
    pgqueuer = verdicts(readings(MEASURED))[0]
    # 2 cores at 200 µs, and what the floor does.
    assert "10,000/s" in pgqueuer.limits
    assert "16,000/s at 90 µs" in pgqueuer.limits
    assert (pgqueuer.target, pgqueuer.absolutes) == ("≥ 0.70 x", "8,000/s; pgqueuer 20,000/s")


@pytest.mark.parametrize(("peak", "met"), [(120.0, True), (120.1, False)])
def test_memory_is_judged_by_the_largest_round(peak: float, *, met: bool) -> None:
    found = Readings({"p1.rss_mb.worker": [50.0, peak, 60.0]})
    assert [each.met for each in verdicts(found)] == [met]


def test_a_latency_that_is_missed_is_explained_by_its_floor_and_by_how_busy_the_processors_are() -> None:
    cost = {"p3.cpu_us": 28_000.0, "p3.cpu_us.executor": 6000.0, "p3.cpu_us.database": 12_000.0, CORES: 2.0}
    floor = {"f1.p50_ms": 3.0, "f1.p99_ms": 4.0}
    (found,) = verdicts(readings({"p3.p50_ms": 11.0, **floor, **cost}))
    assert (found.found, found.met) == ("11.0 ms", False)
    assert "(executor 6,000 µs, database 12,000 µs), which keeps all processors busy for 70 %" in found.limits
    assert "(F1) are at 3.0 ms and 4.0 ms" in found.limits


def test_a_hand_off_that_misses_its_target_is_held_against_both_kinds_of_bare_queues() -> None:
    name = "p4.limit1"
    parts = {"share": 0.64, "bare_quorum": 0.79, "bare_classic": 0.82, "prefetch": 0.9, "semaphore": 0.98}
    rest = {"release_ms": 4.0, "start_ms": 3.0, "work_ms": 23.0}
    hops = {f"hop.{kind}.{state}_ms": 1.5 for kind in ("quorum", "classic") for state in ("idle", "busy")}
    found = verdicts(readings({**{f"{name}.{part}": value for part, value in {**parts, **rest}.items()}, **hops}))
    assert [(each.found, each.met) for each in found] == [("64 %", False)]
    for told in ("79 % over quorum queues", "82 % over classic", "1.5 ms", "30.0 ms"):
        assert told in found[0].limits


def test_the_page_shows_each_plot_that_was_drawn_and_nothing_that_was_not_measured() -> None:
    peers = {"pgqueuer": Peer(versions={"pgqueuer": "1.6"}, settings="drain | mode")}
    files = render(outcome({name: value for name, value in MEASURED.items() if "celery" not in name}, peers))
    assert sorted(files) == ["cpu.svg", "report.md", "throughput.svg"]
    assert re.findall(r"!\[.*?\]\((.*?)\)", files[PAGE]) == ["throughput.svg", "cpu.svg"]
    for told in ("| P1 | no-ops per second, over pgqueuer | 0.40 x | ≥ 0.70 x | **no** |", "drain \\| mode", "P9"):
        assert told in files[PAGE]


def test_the_page_of_a_run_without_peers_has_no_word_of_them() -> None:
    page = render(outcome({CORES: 2.0, **COST, "p1.per_second": 1.0}))[PAGE]
    assert "## Peers" not in page


@pytest.mark.parametrize(("others", "warned"), [([0.01, 0.05], False), ([0.01, 0.4], True)])
def test_a_page_warns_when_others_used_the_machine_in_any_round(others: list[float], *, warned: bool) -> None:
    measured = outcome({CORES: 2.0, **COST, "p1.per_second": 1.0})
    for each in others:
        measured.readings.add({OTHERS: each})
    assert ("other programs took up to 40 %" in render(measured)[PAGE]) is warned


def test_every_line_of_a_table_has_as_many_cells_as_its_head() -> None:
    lines = table(["a", "b"], [["1|2", "3"], ["4", "5"]]).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3, 3, 3, 3]


def test_bars_are_as_long_as_their_values_and_ticks_stand_at_their_targets() -> None:
    drawn = ET.fromstring(  # noqa: S314 - we wrote it
        bars(
            "A & B", [Bar(label="<one>", value=50.0, text="50"), Bar(label="two", value=100.0, text="100", target=200)]
        )
    )
    space = "{http://www.w3.org/2000/svg}"
    widths = [float(rect.attrib["width"]) for rect in drawn.iter(f"{space}rect")]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    (tick,) = drawn.iter(f"{space}line")
    assert float(tick.attrib["x1"]) - LABELS == pytest.approx(2 * widths[1], abs=0.2)
    assert [text.text for text in drawn.iter(f"{space}text")] == ["A & B", "<one>", "50", "two", "100"]


def test_a_plot_without_bars_is_refused() -> None:
    with pytest.raises(ValueError, match="no bars"):
        bars("nothing", [])


@pytest.mark.parametrize(("value", "said"), [(0.1234, "0.123"), (12.0, "12"), (12_345.6, "12,346")])
def test_numbers_have_no_needless_digits(value: float, said: str) -> None:
    assert plain(value) == said


def test_factors_have_two_digits_below_ten() -> None:
    assert [times(0.7), times(9.994), times(20.0)] == ["0.70 x", "9.99 x", "20 x"]


def test_the_report_that_is_kept_is_what_its_readings_say() -> None:
    kept = Outcome.from_json((PAGES / "readings.json").read_text(encoding="utf-8"))
    files = render(kept)
    assert {name: (PAGES / name).read_text(encoding="utf-8") for name in files} == files
    assert sorted(path.name for path in PAGES.glob("*.svg")) == sorted(name for name in files if name.endswith(".svg"))
