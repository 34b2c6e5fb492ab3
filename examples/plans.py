"""Plans of batches from where the work is listed: the rows of a CSV file, and those of a query.

Each function is a generator, so a list of any length is planned in bounded memory. Every attempt to plan must find the
same in the same order, and the worker that plans reads the file and the database: see `batches/csv-greetings.yaml` and
`batches/bi-ordered-days.yaml`.
"""

from __future__ import annotations

import csv
import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ADDRESS: Final = "BI_DATABASE_URL"
ORDERED_DAYS: Final = (Path(__file__).parent / "sql" / "bi_ordered_days.sql").read_text(encoding="utf-8")
ROWS: Final = 1000
"""Rows that the cursor fetches at once."""


def csv_rows(path: str) -> Iterator[dict[str, str]]:
    """Give each row of the file as an object with the names of the first row. A byte order mark is let pass.

    Raises OSError, UnicodeDecodeError and csv.Error. A row with more fields than names is no item, and named as such.
    """
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, strict=True)


async def ordered_days(first: str, last: str) -> AsyncIterator[dict[str, Any]]:
    """Give each user and day with orders between two days, both included, as of one moment.

    Raises KeyError where BI_DATABASE_URL is not set, and what the database raises.
    """
    connection = await asyncpg.connect(os.environ[ADDRESS])
    try:
        async with connection.transaction(readonly=True):
            arguments = date.fromisoformat(first), date.fromisoformat(last)
            async for row in connection.cursor(ORDERED_DAYS, *arguments, prefetch=ROWS):
                yield dict(row)
    finally:
        await connection.close()
