"""SQL lives in `.sql` files, one verb each: this loads a package's folder of them. Owns no connection."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Statements:
    """The statements of one package: `Statements("worker")["claim"]` is the text of worker/sql/claim.sql."""

    def __init__(self, package: str) -> None:
        self._texts = {
            entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
            for entry in (files(package) / "sql").iterdir()
            if entry.name.endswith(".sql")
        }

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._texts))
