"""Accuracy against training compute, with the Pareto front."""

from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ...core.errors import BadInput
from ..run_filter import LeftOut
from ..style import GREY, PALETTE, sheet, styled
from ..table import Table, TableRow
from ..text import span
from .labels import footnote, name_points

UNITS = {18: "EFLOPs, 10¹⁸", 15: "PFLOPs, 10¹⁵", 12: "TFLOPs, 10¹²", 9: "GFLOPs, 10⁹", 6: "MFLOPs, 10⁶"}
DECADE = 10  # ratio of the largest to the smallest cost from which the axis is logarithmic


def costed(table: Table) -> tuple[list[TableRow], list[LeftOut]]:
    """The rows with a known training cost, and the others with the reason; BadInput if there are none."""
    ended_well = [row for row in table.rows if row.accuracy]
    rows = [row for row in ended_well if row.flops]
    left_out = [(row.name, "its records have no train_flops") for row in ended_well if not row.flops]
    if not rows:
        raise BadInput("no row has a training cost (train_flops in result.json, which newer runs record)")
    return rows, left_out


def pareto(rows: list[TableRow]) -> list[TableRow]:
    """The rows that no other exceeds in mean accuracy at the same cost or less, the cheapest first."""
    front: list[TableRow] = []
    for row in sorted(rows, key=lambda row: (row.flops, -row.accuracy.mean)):
        if not front or row.accuracy.mean > front[-1].accuracy.mean:
            front.append(row)
    return front


@styled
def draw(rows: list[TableRow], title: str = "") -> Figure:
    """A labelled point for each row, and the Pareto front as a staircase."""

    figure = sheet(max(4.4, 2 + 0.19 * len(rows)), title)
    panel = figure.subplots()
    most, least = max(row.flops for row in rows), min(row.flops for row in rows)
    power = max((power for power in UNITS if most >= 10**power), default=6)
    x = {row.setting: row.flops / 10**power for row in rows}
    front = pareto(rows)
    taken = []  # left, bottom, right and top of areas that names should not cover
    for row in rows:
        at, accuracy = x[row.setting], row.accuracy
        colour = PALETTE[0] if row in front else GREY
        low, high = (accuracy.mean,) * 2 if accuracy.low is None else (accuracy.low, accuracy.high)
        panel.plot([at, at], [low, high], color=colour, linewidth=1.2, alpha=0.6)
        face = "white" if accuracy.low is None else colour
        panel.plot([at], [accuracy.mean], "o", color=colour, markerfacecolor=face, zorder=3)
        taken.append((at, low, at, high))
    for row, better in pairwise(front):
        y, higher = row.accuracy.mean, better.accuracy.mean
        left, right = x[row.setting], x[better.setting]
        stairs = [left, right, right], [y, y, higher]
        panel.plot(*stairs, color=PALETTE[0], linewidth=1, linestyle="--", zorder=1)
        taken += [(left, y, right, y), (right, y, right, higher)]
    panel.set(xlabel=f"training compute ({UNITS[power]} operations)", ylabel="test accuracy (%)")
    if most >= DECADE * least:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
    panel.margins(x=0.2, y=0.08)
    footnote(figure, caption(rows))
    name_points(panel, [(x[row.setting], row.accuracy.mean, row.name) for row in rows], taken)
    return figure


def caption(rows: list[TableRow]) -> str:
    """The meaning of bars, marks and lines, and the number of seeds."""
    parts = [f"mean of n = {span([len(row.values) for row in rows])} seeds"]
    if any(row.accuracy.low is not None for row in rows):
        parts.append("bar: 95 % interval")
    if any(row.accuracy.low is None for row in rows):
        parts.append("open: too few runs for an interval")
    return "; ".join([*parts, "blue: the Pareto front of the means; multiply and add count as 2 operations"])
