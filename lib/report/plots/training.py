"""Training loss and test accuracy over the epochs, the settings beside one another.

A line is the mean over a setting's seeds. The band around it reaches from the lowest of them to the highest:
of two or three seeds an interval of confidence at every epoch would be so wide as to hide the other lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..style import PALETTE, sheet, styled, wrapped
from .epochs import Settings, over_seeds
from .labels import aside
from .lines import HEIGHT, TOGETHER, Line, draw_apart, draw_together, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSS, ACCURACY = "training loss", "test accuracy (%)"
ROW, REST = 0.3, 0.6  # inches of a row of points, and of what stands around panels


@styled
def draw(settings: Settings, baseline: str | None = None, title: str = "") -> Figure:
    """Two panels with all settings or, where these are many, two panels for each.

    Args:
        baseline: the setting that stands behind each of many.
    """
    losses, accuracies = (
        [over_seeds(name, runs, key) for name, runs in settings.items()]
        for key in ("train_loss", "test_accuracy")
    )
    once = all(len(line.x) <= 1 for line in accuracies)
    many = len(settings) > TOGETHER
    if many:
        upper = REST + HEIGHT * rows_of(losses)
        lower = REST + (ROW * len(accuracies) if once else HEIGHT * rows_of(accuracies))
        figure = sheet(upper + lower, title)
        above, below = figure.subfigures(2, 1, height_ratios=(upper, lower))
        draw_apart(above, losses, LOSS, baseline)
        if once:
            _draw_once(below.subplots(), accuracies, PALETTE[:1] * len(accuracies))
        else:
            draw_apart(below, accuracies, ACCURACY, baseline)
    else:
        figure = sheet(3.6, title)
        left, right = figure.subplots(1, 2)
        draw_together(left, losses, LOSS, named=False)
        if once:
            _draw_once(right, accuracies, PALETTE)
        else:
            draw_together(right, accuracies, ACCURACY)
    behind = [f"grey: all settings{f'; black: {baseline}' if baseline in settings else ''}"] if many else []
    aside(figure, "; ".join([*caption(settings), *behind]))
    return figure


def caption(settings: Settings) -> list[str]:
    """What lines and bands are, and of how many seeds."""
    counts = {name: len(runs) for name, runs in settings.items()}
    several = sorted({n for n in counts.values() if n > 1})
    said = []
    if several:
        n = str(several[0]) if len(several) == 1 else f"{several[0]} to {several[-1]}"
        said.append(f"line: mean of {n} seeds; band: from the lowest to the highest of them")
    if single := [name for name, n in counts.items() if n == 1]:
        who = ", ".join(single) if several else "each line"
        said.append(f"{who}: one seed, hence no band")
    return said


def _draw_once(panel: Axes, lines: list[Line], colours: Sequence[str]) -> None:
    """Accuracies that were measured at one epoch only, which make no line: a row for each setting."""
    for row, (line, colour) in enumerate(zip(lines, colours, strict=False)):
        if line.low:
            panel.plot([line.low[0], line.high[0]], [row, row], color=colour, alpha=0.35, linewidth=6)
        panel.plot(line.y, [row] * len(line.y), "o", color=colour, label=line.name)
    panel.set_yticks(range(len(lines)), [wrapped(line.name, 26) for line in lines])
    panel.set_ylim(len(lines) - 0.5, -0.5)
    epochs = sorted({epoch for line in lines for epoch in line.x})
    panel.set_xlabel(f"{ACCURACY} after {f'epoch {epochs[0]}' if len(epochs) == 1 else 'the last epoch'}")
    panel.grid(False, axis="y")
