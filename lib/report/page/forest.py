"""The forest plot: a line for each setting, with its difference to the baseline and the interval of that.

Places are in per cent of the picture's width, so that it fits any window while its letters keep their size.
"""

import math
from collections.abc import Callable, Mapping

from ..render import difference
from ..rows import Row
from .content import Content
from .markup import Markup, join, tag

MARGIN = 0.04  # of the width, left and right of the data
STEPS = 7  # of the axis, at most
FIRM = "p\u00a0<\u00a00.05 after Holm"


def effects(content: Content) -> Markup:
    """A forest plot for each data set that has a baseline; nothing where none has."""
    plots = []
    for table in content.tables:
        rows = {
            place: one.row
            for place, one in enumerate(content.settings)
            if one.dataset == table.dataset and one.row.difference
        }
        if rows:
            unit = f"percentage points of accuracy, against {table.baseline}; a full point: {FIRM}"
            head = tag("h3", table.dataset) if len(content.tables) > 1 else None
            plots.append(join(head, forest(rows, unit)))
    return tag("section", tag("h2", "Effects"), *plots, id="effects") if plots else Markup("")


def forest(rows: Mapping[int, Row], unit: str) -> Markup:
    """Rows with a difference, the greatest first.

    Args:
        rows: by their places in the table.
    """
    gaps = [row.difference for row in rows.values()]
    ends = [value for gap in gaps for value in (gap.mean, gap.low, gap.high) if value is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = (high - low or 1.0) * MARGIN
    low, high = low - room, high + room
    steps = round_steps(low, high, STEPS)

    def x(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    grid = [
        tag("line", x1=x(step), x2=x(step), y1=0, y2="100%", class_=None if step else "zero")
        for step in steps
    ]
    ordered = sorted(rows.items(), key=lambda item: -item[1].difference.mean)
    labels = [tag("text", text, x=x(step), y=12, text_anchor="middle") for step, text in _labels(steps)]
    axis = tag(
        "div",
        tag("span"),
        tag("span", tag("svg", *labels, height=16), tag("span", unit, class_="unit")),
        class_="axis",
        aria_hidden="true",
    )
    return tag(
        "div", tag("ol", *(_line(place, row, grid, x) for place, row in ordered)), axis, class_="forest"
    )


def _line(place: int, row: Row, grid: list[Markup], x: Callable[[float], str]) -> Markup:
    gap = row.difference
    side = "even" if gap.low is None or gap.low <= 0 <= gap.high else "up" if gap.low > 0 else "down"
    firm = "firm" if gap.verdict in ("better", "worse") else ""
    marks = [tag("circle", cx=x(gap.mean), cy="50%", r=4.5)]
    if gap.low is not None:
        marks.insert(0, tag("line", x1=x(gap.low), x2=x(gap.high), y1="50%", y2="50%", class_="whisker"))
    return tag(
        "li",
        tag("a", row.name, href=f"#setting-{place}"),
        tag("svg", *grid, *marks, height=30, aria_hidden="true"),
        tag("span", difference(gap), class_="said"),
        id=f"effect-{place}",
        class_=f"{side} {firm}".strip(),
        title=gap.verdict,
    )


def round_steps(low: float, high: float, count: int) -> list[float]:
    """Round numbers between two bounds, at most `count + 1`: 1, 2 or 5 times a power of ten apart."""
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(by * power for by in (1, 2, 5, 10) if (high - low) / (by * power) <= count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def _labels(steps: list[float]) -> list[tuple[float, str]]:
    gap = steps[1] - steps[0] if len(steps) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(gap) + 1e-9))
    return [(step, f"{step:+.{decimals}f}".replace("-", "−") if step else "0") for step in steps]
