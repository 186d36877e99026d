"""Numbers as they stand on the page."""

import math

NONE = "–"


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def number(value: float | None, decimals: int = 2) -> str:
    """With a true minus; a dash where there is none."""
    return f"{value:,.{decimals}f}".replace("-", "−") if is_number(value) else NONE


def signed(value: float | None) -> str:
    return number(value) if not is_number(value) or value <= 0 else f"+{number(value)}"


def accuracy(mean: float, sd: float | None) -> str:
    return number(mean) if sd is None else f"{number(mean)} ± {number(sd)}"


def between(low: float | None, high: float | None) -> str:
    return NONE if low is None or high is None else f"{number(low)} – {number(high)}"


def difference(mean: float, low: float | None, high: float | None) -> str:
    """`−1.59 (−3.13 to −0.05)`."""
    return signed(mean) + ("" if low is None else f" ({signed(low)} to {signed(high)})")


def p_value(p: float | None) -> str:
    return NONE if not is_number(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float | None) -> str:
    """In the two greatest units."""
    if not is_number(seconds):
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def compute(flops: float | None) -> str:
    """Operations in PFLOP, three digits."""
    if not is_number(flops):
        return NONE
    value = flops / 1e15
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def count(n: int, one: str, more: str = "") -> str:
    return f"{n:,} {one if n == 1 else more or f'{one}s'}"
