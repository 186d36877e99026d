"""Accuracy against the operations that training took, and which settings none beats in both."""

import math
from dataclasses import dataclass

from lib.report.plots.labels import aside, name_points
from lib.report.style import GREY, PALETTE, WIDTH, plain, styled

UNITS = {18: "EFLOPs, 10¹⁸", 15: "PFLOPs, 10¹⁵", 12: "TFLOPs, 10¹²", 9: "GFLOPs, 10⁹", 6: "MFLOPs, 10⁶"}
DECADE = 10  # the dearest over the cheapest, from where on the axis is logarithmic


@dataclass(frozen=True)
class Point:
    name: str
    n: int  # seeds
    flops: float  # of a training: operations, of which a multiplication with an addition is two
    mean: float  # test accuracy, %
    low: float  # the ends of its interval; nan where there is none
    high: float


def pareto(points: list[Point]) -> list[Point]:
    """Those that no other beats in accuracy at the same cost or less, the cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.flops, -point.mean)):
        if not front or point.mean > front[-1].mean:
            front.append(point)
    return front


@styled
def draw(points: list[Point], remark: str, title: str = ""):
    """A point for each setting, named, and the Pareto front as a staircase.

    Args:
        remark: what the bars are.
    Returns:
        A matplotlib Figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(WIDTH, max(4.4, 2 + 0.19 * len(points))), layout="constrained")
    panel = figure.subplots()
    front = pareto(points)
    most = max(point.flops for point in points)
    power = max((power for power in UNITS if most >= 10**power), default=6)
    at = {point.name: point.flops / 10**power for point in points}
    for point in points:
        colour = PALETTE[0] if point in front else GREY
        if not math.isnan(point.low):
            panel.plot([at[point.name]] * 2, [point.low, point.high], color=colour, linewidth=1.2, alpha=0.6)
        face = "white" if math.isnan(point.low) else colour
        panel.plot([at[point.name]], [point.mean], "o", color=colour, markerfacecolor=face, zorder=3)
    x, y = [at[point.name] for point in front], [point.mean for point in front]
    stairs = [
        box
        for k in range(len(x) - 1)
        for box in ((x[k], y[k], x[k + 1], y[k]), (x[k + 1], *y[k : k + 1], x[k + 1], y[k + 1]))
    ]
    panel.plot(x, y, drawstyle="steps-post", color=PALETTE[0], linewidth=1, linestyle="--", zorder=1)
    panel.set(xlabel=f"training compute ({UNITS[power]} operations)", ylabel="test accuracy (%)")
    if max(at.values()) > DECADE * min(at.values()):
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
    panel.margins(x=0.2, y=0.08)
    if title:
        figure.suptitle(plain(title))
    aside(figure, f"{remark}; dashed: Pareto front of the means")
    bars = [
        (
            at[p.name],
            p.mean if math.isnan(p.low) else p.low,
            at[p.name],
            p.mean if math.isnan(p.high) else p.high,
        )
        for p in points
    ]
    name_points(panel, [(at[point.name], point.mean, point.name) for point in points], bars + stairs)
    return figure
