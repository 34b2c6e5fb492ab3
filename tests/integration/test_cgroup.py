"""Control groups, real ones where this machine has them: what is in one dies at once, and dead guardians leave none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.eventually import eventually
from worker import cgroup, lineage
from worker.cgroup import PREFIX, Cgroup, NoCgroup

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
# A guardian's part: makes a group, puts a daemon of its own into it, and is killed before it could clean up.
CARELESS = """
import os, signal
from pathlib import Path
from worker.cgroup import Cgroup
group = Cgroup.create(Path(os.sys.argv[1]))
if os.fork() == 0:
    group.enter()
    os.setsid()
    # Another program, as commands are, and told by it: until then the fork would hold the guardian's lock, too.
    os.execvp("sh", ["sh", "-c", "echo $$; exec sleep 1000 >&-"])
signal.pause()
"""


@pytest.fixture
def parent() -> Iterator[Path]:
    """A group of the test's own, in which guardians make theirs."""
    try:
        group = Cgroup.create()
    except NoCgroup as reason:
        pytest.skip(f"a real attempt found no control group: {reason}")
    folder = group._folder  # noqa: SLF001 - the only way to have a place for more
    yield folder
    group.kill()
    group.close()
    assert not folder.exists()


def _inside(parent: Path) -> list[Path]:
    return sorted(parent.glob(f"{PREFIX}*"))


def _alive(pid: int) -> bool:
    one = lineage.kin(pid)
    return one is not None and one.state not in lineage.DEAD


def test_what_entered_a_group_dies_at_once_with_all_that_came_from_it(parent: Path) -> None:
    group = Cgroup.create(parent)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        group.enter()
        # Forks without end and leaves no parent behind: no look at /proc could catch up with it.
        os.setsid()
        os.write(writer, b"x")
        while os.fork() == 0:
            os.setsid()
        os._exit(0)
    os.read(reader, 1)
    group.kill()
    os.waitpid(pid, 0)
    # It waits until the group is empty, for a second at most: what is still forking would keep it.
    group.close()
    assert _inside(parent) == []
    os.close(reader)
    os.close(writer)


def test_a_group_is_removed_with_those_that_were_made_inside_it(parent: Path) -> None:
    group = Cgroup.create(parent)
    [folder] = _inside(parent)
    (folder / "payload" / "deeper").mkdir(parents=True)
    group.close()
    assert _inside(parent) == []
    group.close()


def _careless(parent: Path) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", CARELESS, str(parent)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


async def test_the_next_guardian_kills_what_a_killed_one_left_and_leaves_a_living_one_alone(parent: Path) -> None:
    processes = [_careless(parent) for _ in range(2)]
    try:
        daemons = [int(process.stdout.readline()) for process in processes if process.stdout]
        processes[0].kill()
        processes[0].wait()
        assert len(_inside(parent)) == 2
        assert _alive(daemons[0])
        group = Cgroup.create(parent)
        await eventually(lambda: not _alive(daemons[0]))
        assert _alive(daemons[1])
        assert len(_inside(parent)) == 2
        group.close()
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        for pid in daemons:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for folder in _inside(parent):
            Cgroup(folder).close()


def test_a_group_that_somebody_removed_is_made_again_and_still_the_guardians_own(parent: Path) -> None:
    group = Cgroup.create(parent)
    [folder] = _inside(parent)
    folder.rmdir()
    group.make_again()
    group.make_again()
    assert _inside(parent) == [folder]
    with pytest.raises(NoCgroup, match="belongs to another guardian"):
        Cgroup(folder)
    group.close()
    assert _inside(parent) == []


def test_a_living_guardians_group_cannot_be_taken_by_another(parent: Path) -> None:
    group = Cgroup.create(parent)
    with pytest.raises(NoCgroup, match="belongs to another guardian"):
        Cgroup(_inside(parent)[0])
    group.close()


def test_a_trial_leaves_nothing_behind(parent: Path) -> None:
    children = lineage.descendants(os.getpid(), lineage.processes())
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    Cgroup.create(parent).close()
    assert lineage.descendants(os.getpid(), lineage.processes()) == children
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_a_folder_that_is_no_group_is_found_out_and_left_as_it_was(tmp_path: Path) -> None:
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(NoCgroup):
        Cgroup.create(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_a_folder_that_is_not_there_or_not_ours_is_no_group(tmp_path: Path) -> None:
    with pytest.raises(NoCgroup, match="No such file"):
        Cgroup.create(tmp_path / "nowhere")


def test_files_that_only_look_like_a_group_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The trial is what decides, so here are folders that take every word and do nothing.
    def pretend(folder: Path) -> None:
        made(folder)
        for name in ("cgroup.procs", "cgroup.kill", "cgroup.events"):
            (folder / name).write_text("populated 0\n")

    made = Path.mkdir
    (tmp_path / "cgroup.procs").touch()
    monkeypatch.setattr(Path, "mkdir", pretend)
    children = lineage.descendants(os.getpid(), lineage.processes())
    with pytest.raises(NoCgroup, match="what was in it lives on"):
        Cgroup.create(tmp_path)
    assert lineage.descendants(os.getpid(), lineage.processes()) == children


V2 = "30 23 0:26 {} {} rw,nosuid - cgroup2 cgroup2 rw"


@pytest.mark.parametrize(
    ("mounts", "groups", "found"),
    [
        (V2.format("/", "/sys/fs/cgroup"), "0::/system.slice/a.service", "/sys/fs/cgroup/system.slice/a.service"),
        (V2.format("/", "/sys/fs/cgroup/unified"), "1:name=systemd:/x\n0::/", "/sys/fs/cgroup/unified"),
        (V2.format("/docker/1", "/sys/fs/cgroup"), "0::/docker/1/in", "/sys/fs/cgroup/in"),
    ],
)
def test_the_guardians_own_group_is_found_where_it_is_mounted(
    mounts: str, groups: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("_MOUNTS", mounts), ("_MEMBERSHIP", groups)):
        (tmp_path / name).write_text(f"{text}\n")
        monkeypatch.setattr(cgroup, name, tmp_path / name)
    assert cgroup.own_group() == Path(found)


@pytest.mark.parametrize(
    ("mounts", "groups"),
    [
        ("30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", "1:cpu:/"),
        ("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "1:cpu:/"),
        ("30 23 0:26 /elsewhere /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "0::/here"),
    ],
)
def test_where_version_2_is_missing_there_is_no_group(
    mounts: str, groups: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("_MOUNTS", mounts), ("_MEMBERSHIP", groups)):
        (tmp_path / name).write_text(f"{text}\n")
        monkeypatch.setattr(cgroup, name, tmp_path / name)
    with pytest.raises(NoCgroup, match="not mounted"):
        cgroup.own_group()
