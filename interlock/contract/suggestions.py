"""Did-you-mean: the nearest known word to an unknown one. Pure; knows nothing about who asks."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIMILAR = 0.6
_LONGEST = 100


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word most like `word`, ignoring case, or None when nothing is close.

    Ties go to the alphabetically first, so the answer does not depend on the order of `known`.
    """
    if len(word) > _LONGEST:
        return None
    wanted = word.casefold()
    best, best_ratio = None, _SIMILAR
    for candidate in sorted(set(known)):
        ratio = SequenceMatcher(None, wanted, candidate.casefold()).ratio()
        if ratio > best_ratio or (best is None and ratio >= _SIMILAR):
            best, best_ratio = candidate, ratio
    return best


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` to put behind a message, or an empty text when nothing is close."""
    match = nearest(word, known)
    return f'; did you mean "{match}"?' if match is not None else ""
