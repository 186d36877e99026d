"""Lines over the epochs, one a setting: named where they end or, where they are many, in a panel each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..style import INK, PALE, PALETTE, wrapped
from .labels import name_ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

TOGETHER = len(PALETTE)  # more lines than colours cannot be told apart in one panel
COLUMNS = 5  # of panels with a line each
HEIGHT = 1.35  # inches of each


@dataclass(frozen=True)
class Line:
    name: str
    x: list[float]
    y: list[float]
    low: list[float] = field(default_factory=list)  # the band around it; empty for none
    high: list[float] = field(default_factory=list)


def rows_of(lines: list[Line]) -> int:
    """How many rows of panels the lines take where each has its own."""
    return math.ceil(len(lines) / COLUMNS)


def draw_together(panel: Axes, lines: list[Line], label: str, named: bool = True) -> None:
    """All lines in one panel, which has a colour for each; named at their ends."""
    # A line without points keeps its colour, so that a setting has one in all panels.
    drawn = [(line, colour) for line, colour in zip(lines, PALETTE, strict=False) if line.x]
    for line, colour in drawn:
        _draw(panel, line, colour)
    panel.set(xlabel="epoch", ylabel=label)
    _whole_epochs(panel)
    if named:
        name_ends(panel, [(line.x[-1], line.y[-1], line.name, colour) for line, colour in drawn])


def draw_apart(figure: FigureBase, lines: list[Line], label: str, baseline: str | None = None) -> None:
    """A panel for each line; behind it what all of them span, and the baseline in black."""
    panels = figure.subplots(rows_of(lines), COLUMNS, sharex=True, sharey=True, squeeze=False)
    at: dict[float, list[float]] = {}
    for line in lines:
        for x, y in zip(line.x, line.y, strict=True):
            at.setdefault(x, []).append(y)
    epochs = sorted(at)
    lowest, highest = [min(at[x]) for x in epochs], [max(at[x]) for x in epochs]
    for panel, line in zip(panels.flat, lines, strict=False):
        # The lines themselves would make the file of 20 settings a megabyte.
        panel.fill_between(epochs, lowest, highest, color=PALE, alpha=0.5, linewidth=0)
        for home in (other for other in lines if other.name == baseline and other != line):
            panel.plot(home.x, home.y, color=INK, linewidth=0.8, label="_baseline")
        _draw(panel, line, PALETTE[0])
        panel.set_title(wrapped(line.name, 24), fontsize=8.5)
        _whole_epochs(panel)
    for place, panel in enumerate(panels.flat):
        if place >= len(lines):
            panel.set_axis_off()
        # What is below it may have been left empty.
        panel.tick_params(labelbottom=place >= len(lines) - COLUMNS)
    figure.supylabel(label, fontsize=10)
    figure.supxlabel("epoch", fontsize=10)


def _draw(panel: Axes, line: Line, colour: str) -> None:
    marker = "." if len(line.x) < 30 else None
    panel.plot(line.x, line.y, color=colour, marker=marker, label=line.name)
    if line.low:
        panel.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)


def _whole_epochs(panel: Axes) -> None:
    panel.margins(x=0.02)
    panel.xaxis.get_major_locator().set_params(integer=True)
