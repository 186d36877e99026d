"""Lines over the epochs: in one panel with names at their ends or, if there are many, in a panel each."""

import math
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D

from ..style import INK, PALE, PALETTE, wrapped
from .labels import name_ends

TOGETHER = len(PALETTE)  # more lines in one panel cannot be told apart by colour
COLUMNS = 5  # of panels with one line each
HEIGHT = 1.35  # inches of such a panel


@dataclass(frozen=True)
class Line:
    name: str
    x: list[float]
    y: list[float]
    low: list[float] = field(default_factory=list)  # the band around it; empty for none
    high: list[float] = field(default_factory=list)


def grid_rows(lines: list[Line]) -> int:
    """The number of rows of panels, if each line has its own."""
    return math.ceil(len(lines) / COLUMNS)


def draw_together(panel: Axes, lines: list[Line], label: str, named: bool = True) -> None:
    """All lines in one panel, in different colours, with their names at their ends."""
    # A line without points keeps its colour, so that a setting has the same one in all panels.
    drawn = [(line, colour) for line, colour in zip(lines, PALETTE, strict=False) if line.x]
    for line, colour in drawn:
        plot_line(panel, line, colour)
    panel.set_ylabel(label)
    label_epochs(panel)
    if named:
        name_ends(panel, [(line.x[-1], line.y[-1], line.name, colour) for line, colour in drawn])


def draw_apart(figure: FigureBase, lines: list[Line], label: str, baseline: str | None = None) -> None:
    """A panel for each line, with the range of all lines in grey and the baseline in black."""
    panels = figure.subplots(grid_rows(lines), COLUMNS, sharex=True, sharey=True, squeeze=False)
    at: dict[float, list[float]] = {}
    for line in lines:
        for x, y in zip(line.x, line.y, strict=True):
            at.setdefault(x, []).append(y)
    epochs = sorted(at)
    lowest, highest = [min(at[x]) for x in epochs], [max(at[x]) for x in epochs]
    for panel, line in zip(panels.flat, lines, strict=False):
        # All lines in each panel would make the file of 20 settings a megabyte.
        panel.fill_between(epochs, lowest, highest, color=PALE, alpha=0.5, linewidth=0)
        for home in (other for other in lines if other.name == baseline and other != line):
            panel.plot(home.x, home.y, color=INK, linewidth=0.8, label="_baseline")
        plot_line(panel, line, PALETTE[0])
        panel.set_title(wrapped(line.name, 24), fontsize=8.5)
        label_epochs(panel, "")
    for place, panel in enumerate(panels.flat):
        if place >= len(lines):
            panel.set_axis_off()
        # The panel below may be empty.
        panel.tick_params(labelbottom=place >= len(lines) - COLUMNS)
    figure.supylabel(label, fontsize=10)
    figure.supxlabel("epoch", fontsize=10)


def plot_line(panel: Axes, line: Line, colour: str, gid: str | None = None) -> Line2D:
    """Draw a line with its band; with markers while there are few points."""
    marker = "." if len(line.x) < 30 else None
    (drawn,) = panel.plot(line.x, line.y, color=colour, marker=marker, label=line.name, gid=gid)
    if line.low:
        panel.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0)
    return drawn


def label_epochs(panel: Axes, label: str = "epoch") -> None:
    """An axis of whole epochs."""
    panel.set_xlabel(label)
    panel.margins(x=0.02)
    panel.xaxis.get_major_locator().set_params(integer=True)
