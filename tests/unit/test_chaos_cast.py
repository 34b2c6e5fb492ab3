"""What a trial learns of its daemons from what they said before they died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.cast import Player
from interlock.local.stack import Endpoints

if TYPE_CHECKING:
    from pathlib import Path


def test_a_daemon_was_struck_where_its_log_says_so_and_nowhere_else(tmp_path: Path) -> None:
    player = Player("worker", 1, Endpoints.of_one_user("postgresql://nowhere/", "amqp://nowhere/"), tmp_path, {})
    assert player.struck() == set()
    player.daemon.log.write_text(
        '{"event":"armed to fail, for testing only","faults":["finish.taken=crash@1"],"level":"warning"}\n'
        '{"event":"fault","point":"sweep.claimed","action":"crash","number":1,"level":"warning"}\n'
        'no line of ours: "event":"fault"\n'
        '{"event":"fault","point":"drain.told","action":"crash","number":1,"level":"warning"}\n'
        '{"event":"fault","point":"cut.sh'
    )
    assert player.struck() == {"sweep.claimed", "drain.told"}
