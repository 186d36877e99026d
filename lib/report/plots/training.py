"""Training loss and test accuracy over the epochs, the settings beside one another.

A line is the mean over a setting's seeds. The band around it reaches from the lowest to the highest of them: of
two or three seeds an interval of confidence at every epoch would be wide enough to hide the other lines.
"""

import statistics

from lib.report.plots.labels import aside
from lib.report.plots.lines import HEIGHT, TOGETHER, Line, draw_apart, draw_together, rows_of
from lib.report.records import RunRecord
from lib.report.style import PALETTE, WIDTH, plain, styled, wrapped

LOSS, ACCURACY = "training loss", "test accuracy (%)"


@styled
def draw(settings: dict[str, list[RunRecord]], title: str = ""):
    """Two panels with all settings or, where these are many, two panels for each.

    Args:
        settings: the runs of each, by name.
    Returns:
        A matplotlib Figure.
    """
    from matplotlib.figure import Figure

    # The best above, as the lines end; of one that has no accuracy nothing is known.
    last = {name: over_seeds(name, runs, "test_accuracy").y[-1:] for name, runs in settings.items()}
    settings = dict(sorted(settings.items(), key=lambda setting: last[setting[0]], reverse=True))
    losses = [line for name, runs in settings.items() if (line := over_seeds(name, runs, "train_loss")).x]
    accuracies = [
        line for name, runs in settings.items() if (line := over_seeds(name, runs, "test_accuracy")).x
    ]
    once = all(len(line.x) == 1 for line in accuracies)
    if len(settings) <= TOGETHER:
        figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_together(left, losses, LOSS, named=False)
        if once:
            _draw_once(right, accuracies, PALETTE)
        else:
            draw_together(right, accuracies, ACCURACY)
    else:
        heights = [
            0.5 + HEIGHT * rows_of(losses),
            0.5 + (0.3 * len(accuracies) if once else HEIGHT * rows_of(accuracies)),
        ]
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.4), layout="constrained")
        upper, lower = figure.subfigures(2, 1, height_ratios=heights)
        draw_apart(upper, losses, LOSS)
        if once:
            _draw_once(lower.subplots(), accuracies, PALETTE[:1] * len(accuracies))
        else:
            draw_apart(lower, accuracies, ACCURACY)
    if title:
        figure.suptitle(plain(title))
    aside(figure, caption(settings))
    return figure


def over_seeds(name: str, runs: list[RunRecord], key: str) -> Line:
    """The mean, the lowest and the highest of a column, at the epochs where every run has it."""
    columns = [{row["epoch"]: row[key] for row in run.epochs if key in row} for run in runs]
    epochs = sorted(set.intersection(*map(set, columns)))
    values = [[column[epoch] for column in columns] for epoch in epochs]
    mean = [statistics.fmean(at) for at in values]
    if len(runs) == 1:
        return Line(name, epochs, mean)
    return Line(name, epochs, mean, [min(at) for at in values], [max(at) for at in values])


def caption(settings: dict[str, list[RunRecord]]) -> str:
    """What lines and bands are, and of how many seeds."""
    counts = {name: len(runs) for name, runs in settings.items()}
    several = sorted({n for n in counts.values() if n > 1})
    said = []
    if several:
        n = str(several[0]) if len(several) == 1 else f"{several[0]} to {several[-1]}"
        said.append(f"mean of {n} seeds; the band reaches from the lowest to the highest of them")
    if single := [name for name, n in counts.items() if n == 1]:
        who = "each setting" if not several else ", ".join(single)
        said.append(f"{who}: one seed, hence no band")
    return "; ".join(said)


def _draw_once(panel, lines: list[Line], colours) -> None:
    """Accuracies that were measured at one epoch only, which make no line: a row for each setting."""
    for row, (line, colour) in enumerate(zip(lines, colours, strict=False)):
        if line.low:
            panel.plot([line.low[0], line.high[0]], [row, row], color=colour, alpha=0.35, linewidth=6)
        panel.plot(line.y, [row], "o", color=colour, label=line.name)
    panel.set_yticks(range(len(lines)), [wrapped(line.name, 26) for line in lines])
    panel.set_ylim(len(lines) - 0.5, -0.5)
    epochs = sorted({line.x[0] for line in lines})
    after = f"epoch {epochs[0]}" if len(epochs) == 1 else "the last epoch"
    panel.set_xlabel(f"{ACCURACY} after {after}")
    panel.grid(False, axis="y")
