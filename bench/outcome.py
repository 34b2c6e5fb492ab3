"""What one call of the benchmark brought: readings, and on what they were measured. As JSON and back. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from bench.readings import Readings


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What a peer says of itself."""

    versions: dict[str, str]
    settings: str


@dataclass(slots=True, kw_only=True)
class Outcome:
    """`facts`: of the machine and the servers; `settings`: sizes and options of the run; both by name."""

    date: str
    facts: dict[str, str]
    settings: dict[str, str]
    readings: Readings = field(default_factory=Readings)
    peers: dict[str, Peer] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return one JSON object on one line: every value of every round, and the medians."""
        rounds = self.readings.rounds
        return json.dumps(
            {
                "date": self.date,
                "facts": self.facts,
                "settings": self.settings,
                "peers": {name: asdict(peer) for name, peer in self.peers.items()},
                "medians": {name: self.readings[name] for name in rounds},
                "rounds": rounds,
            }
        )

    def add(self, other: Outcome) -> None:
        """Take over the figures of another run; what it says of the machine stays its own, but for its date."""
        taken = {name: values for name, values in other.readings.rounds.items() if not name.startswith("machine.")}
        self.readings = Readings({**self.readings.rounds, **taken})
        self.peers |= other.peers
        figures = dict.fromkeys(name.partition(".")[0].upper() for name in taken)
        self.settings[", ".join(figures)] = f"measured by themselves on {other.date}"

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """Read what `to_json` wrote; medians are computed again."""
        found = json.loads(text)
        return cls(
            date=found["date"],
            facts=found["facts"],
            settings=found["settings"],
            readings=Readings(found["rounds"]),
            peers={name: Peer(**peer) for name, peer in found["peers"].items()},
        )
