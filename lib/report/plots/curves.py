"""Training curves: of settings with a band over their seeds, and of the runs of one setting with all metrics.

The line of a setting is the mean over its seeds, and the band reaches from their lowest to their highest
value: with two or three seeds, a confidence interval at every epoch would be so wide that it hides the other
lines.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..style import PALETTE, encode, sheet, styled, wrapped
from ..text import span
from .epochs import Settings, over_seeds
from .labels import footnote
from .lines import HEIGHT, TOGETHER, Line, draw_apart, draw_together, grid_rows, label_epochs, plot_line

LOSS, ACCURACY = "training loss", "test accuracy (%)"
ROW, REST = 0.3, 0.6  # inches of a row of points, and of what surrounds panels
METRICS = {
    "loss": "_loss",
    "accuracy (%)": "_accuracy",
    "learning rate": "lr",
}  # label and suffix of the keys


def draw_curves(rows: list[dict[str, Any]], title: str) -> bytes:
    """The curves of one run, from the lines of metrics.jsonl, as a PNG."""
    return encode(draw_runs([rows], title), dpi=110)


@styled
def draw_runs(runs: Sequence[list[dict[str, Any]]], title: str = "") -> Figure:
    """Losses, accuracies and learning rate of runs of one setting; a metric has one colour in all panels.

    Args:
        runs: of each, the lines of metrics.jsonl; the ids of its lines in an SVG start with `run-<index>-`.
    """
    figure = sheet(3.2, title, width=10)
    keys = dict.fromkeys(key for rows in runs for row in rows for key in row)
    colours: dict[str, str] = {}
    handles = {}
    for panel, (label, suffix) in zip(figure.subplots(1, 3, sharex=True), METRICS.items(), strict=True):
        for key in (key for key in keys if key.endswith(suffix)):
            name = key.removesuffix(suffix).replace("_", " ")
            colour = colours.setdefault(name, PALETTE[len(colours) % len(PALETTE)])
            for index, rows in enumerate(runs):
                line = over_seeds(name, [rows], key)
                handles[name] = plot_line(panel, line, colour, gid=f"run-{index}-{key}")
        panel.set_ylabel(label)
        panel.grid(False, axis="x")
        panel.tick_params(length=0)
        label_epochs(panel)
    named = [line for name, line in handles.items() if name]  # the learning rate has its label only
    figure.legend(handles=named, loc="outside lower left", ncols=8, frameon=False)
    return figure


@styled
def draw(settings: Settings, baseline: str | None = None, title: str = "") -> Figure:
    """Training loss and test accuracy: two panels with all settings or, if there are many, two for each.

    The baseline is repeated in each of many panels.
    """
    losses, accuracies = (
        [over_seeds(name, [run.epochs for run in runs], key) for name, runs in settings.items()]
        for key in ("train_loss", "test_accuracy")
    )
    once = all(len(line.x) <= 1 for line in accuracies)
    many = len(settings) > TOGETHER
    if many:
        upper = REST + HEIGHT * grid_rows(losses)
        lower = REST + (ROW * len(accuracies) if once else HEIGHT * grid_rows(accuracies))
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
    black = f"; black: {baseline}" if baseline in settings else ""
    explained = [f"grey: all settings{black}"] if many else []
    footnote(figure, "; ".join([*caption(settings), *explained]))
    return figure


def caption(settings: Settings) -> list[str]:
    """The meaning of lines and bands, and the numbers of seeds."""
    counts = {name: len(runs) for name, runs in settings.items()}
    several = [n for n in counts.values() if n > 1]
    parts = []
    if several:
        parts.append(f"line: mean of {span(several)} seeds; band: from the lowest to the highest of them")
    if single := [name for name, n in counts.items() if n == 1]:
        who = ", ".join(single) if several else "each line"
        parts.append(f"{who}: one seed, hence no band")
    return parts


def _draw_once(panel: Axes, lines: list[Line], colours: Sequence[str]) -> None:
    """Accuracies that were measured at one epoch only: a row of points for each setting."""
    for row, (line, colour) in enumerate(zip(lines, colours, strict=False)):
        if line.low:
            panel.plot([line.low[0], line.high[0]], [row, row], color=colour, alpha=0.35, linewidth=6)
        panel.plot(line.y, [row] * len(line.y), "o", color=colour, label=line.name)
    panel.set_yticks(range(len(lines)), [wrapped(line.name, 26) for line in lines])
    panel.set_ylim(len(lines) - 0.5, -0.5)
    epochs = sorted({epoch for line in lines for epoch in line.x})
    panel.set_xlabel(f"{ACCURACY} after {f'epoch {epochs[0]}' if len(epochs) == 1 else 'the last epoch'}")
    panel.grid(False, axis="y")
