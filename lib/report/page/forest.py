"""The forest plot: a line for each setting, with its difference to the baseline and the interval of that.

Places are in per cent of the picture's width, so that it fits any window while its letters keep their size.
"""

import math

from lib.report.page.markup import Markup, tag

MARGIN = 0.04  # of the width, left and right of the data


def forest(effects: list[dict], unit: str) -> Markup:
    """The differences, the greatest first.

    Args:
        effects: dicts of `setting` (its place in the table), `name`, `mean`, `low`, `high` (None without an
            interval) and `said` (the numbers in words).
    """
    ends = [
        value
        for effect in effects
        for value in (effect["mean"], effect["low"], effect["high"])
        if value is not None
    ]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = (high - low or 1.0) * MARGIN
    low, high = low - room, high + room
    steps = round_steps(low, high)

    def x(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    grid = [
        tag("line", x1=x(step), x2=x(step), y1=0, y2="100%", class_="zero" if step == 0 else None)
        for step in steps
    ]
    rows = [_row(effect, grid, x) for effect in sorted(effects, key=lambda effect: -effect["mean"])]
    labels = [tag("text", _signed(step, steps), x=x(step), y=12, text_anchor="middle") for step in steps]
    axis = tag(
        "div",
        tag("span"),
        tag("span", tag("svg", *labels, height=16), tag("span", unit, class_="unit")),
        tag("span"),
        class_="axis",
        aria_hidden="true",
    )
    return tag("div", tag("ol", *rows), axis, class_="forest")


def _row(effect: dict, grid: list[Markup], x) -> Markup:
    low, high = effect["low"], effect["high"]
    kind = "open" if low is None else "up" if low > 0 else "down" if high < 0 else "even"
    marks = [
        low is not None and tag("line", x1=x(low), x2=x(high), y1="50%", y2="50%", class_="whisker"),
        tag("circle", cx=x(effect["mean"]), cy="50%", r=4.5),
    ]
    picture = tag("svg", *grid, *filter(None, marks), height=30, aria_hidden="true")
    return tag(
        "li",
        tag("a", effect["name"], href=f"#setting-{effect['setting']}"),
        picture,
        tag("span", effect["said"], class_="said"),
        id=f"effect-{effect['setting']}",
        class_=kind,
    )


def round_steps(low: float, high: float, count: int = 7) -> list[float]:
    """Round numbers between two bounds, at most `count`: 1, 2 or 5 times a power of ten apart."""
    power = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(by * power for by in (1, 2, 5, 10) if (high - low) / (by * power) <= count)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _signed(value: float, steps: list[float]) -> str:
    gap = steps[1] - steps[0] if len(steps) > 1 else 1
    decimals = max(0, -math.floor(math.log10(gap) + 1e-9))
    return f"{value:+.{decimals}f}".replace("-", "−") if value else "0"
