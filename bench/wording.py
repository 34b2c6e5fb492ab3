"""Numbers as people read them, with their units. Pure."""

from __future__ import annotations


def plain(value: float) -> str:
    """Return a number without needless digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004 - four digits and more are whole


def count(value: float) -> str:
    """Return a whole number."""
    return f"{value:,.0f}"


def per_second(value: float) -> str:
    """Return a rate."""
    return f"{value:,.0f}/s"


def seconds(value: float) -> str:
    """Return a duration that is given in seconds."""
    return f"{value:,.2f} s"


def milliseconds(value: float) -> str:
    """Return a duration that is given in milliseconds."""
    return f"{value:,.1f} ms"


def microseconds(value: float) -> str:
    """Return a duration that is given in microseconds."""
    return f"{value:,.0f} µs"


def megabytes(value: float) -> str:
    """Return a size that is given in megabytes."""
    return f"{value:,.0f} MB"


def share(value: float) -> str:
    """Return a share of one as per cent."""
    return f"{100 * value:,.0f} %" if value >= 0.1 or not value else f"{100 * value:.2g} %"  # noqa: PLR2004 - as below


def times(value: float) -> str:
    """Return a factor: two digits below ten."""
    return f"{value:.2f} x" if value < 10 else f"{value:,.0f} x"  # noqa: PLR2004 - two digits tell enough
