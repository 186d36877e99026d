"""Numbers, durations and aligned columns as text."""

import math
from collections.abc import Collection, Sequence

NONE = "–"  # where there is no number


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: object, form: str = ",.2f", unit: str = "") -> str:
    """A number with two decimals or another format; a dash for None, nan and anything else."""
    return f"{value:{form}}{unit}" if is_number(value) else NONE


def with_minus(text: str) -> str:
    """Formatted numbers with the minus sign, which is as wide as the plus, for a hyphen."""
    return text.replace("-", "−")


def p_value(p: float | None) -> str:
    return "< 0.001" if is_number(p) and p < 0.001 else number(p, ".3f")


def petaflop(flops: object) -> str:
    """A number of operations in PFLOP, with three significant digits."""
    return number(flops / 1e15, ".3g" if flops < 1e18 else ",.0f") if is_number(flops) else NONE


def duration(seconds: object) -> str:
    """Human-readable duration in its two largest units: `4.2 s`, `1 min 06 s`, `3 h 05 min`, `2 d 04 h`."""
    if not is_number(seconds):
        return NONE
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02} h"
    return f"{hours} h {minute:02} min" if hours else f"{minutes} min {second:02} s"


def count(n: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{n:,} {noun}{'s' * (n != 1)}"


def span(counts: Collection[int]) -> str:
    """`3`, or `2 to 5`."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first flush left, the others, which hold numbers, flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
