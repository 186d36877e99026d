"""The learning rate over the epochs; settings with the same schedule share a line."""

from matplotlib.figure import Figure

from ..style import folded, sheet, styled
from .epochs import Settings, over_seeds
from .labels import footnote
from .lines import HEIGHT, TOGETHER, Line, draw_apart, draw_together, grid_rows

LABEL = "learning rate"


@styled
def draw(settings: Settings, title: str = "") -> Figure:
    """A line for each schedule."""
    lines = schedules(settings)
    if len(lines) <= TOGETHER:
        # Nearly all end at zero, so names at their ends would overlap: use a legend.
        names = [folded(line.name, 110) for line in lines]
        above = 0.2 * sum(1 + name.count("\n") for name in names)
        figure = sheet(3.2 + above, title)
        panel = figure.subplots()
        draw_together(panel, lines, LABEL, named=False)
        panel.set_ylim(bottom=0)
        figure.legend(panel.lines, names, loc="outside upper left", frameon=False)
    else:
        figure = sheet(0.6 + HEIGHT * grid_rows(lines), title)
        draw_apart(figure, lines, LABEL)
    footnote(figure, "at the last step of each epoch")
    return figure


def schedules(settings: Settings) -> list[Line]:
    """The different schedules, with the names of all settings that use each."""
    # An interrupted run shows less; use the first of the longest runs.
    longest = {name: max(runs, key=lambda run: len(run.epochs)) for name, runs in settings.items()}
    named: dict[tuple, list[str]] = {}
    for name, run in longest.items():
        line = over_seeds(name, [run.epochs], "lr")
        named.setdefault((tuple(line.x), tuple(line.y)), []).append(name)
    return [Line(", ".join(names), list(x), list(y)) for (x, y), names in named.items() if x]
