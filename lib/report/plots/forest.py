"""A forest plot: the difference of each setting to the baseline with its interval, the best at the top."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...core.errors import BadInput
from ..style import BETTER, GREY, INK, WORSE, folded, sheet, styled, wrapped
from ..table import Table, TableRow
from ..text import with_minus
from .labels import footnote

ROW = 0.28  # inches
COLUMNS = (58, 154, 178)  # points to the right of the panel where the columns of numbers end

# For each verdict of the table: colour, whether the point is filled, and the explanation.
BUT = ", but not after Holm"
LOOKS = {
    "better": (BETTER, True, "blue: better"),
    "worse": (WORSE, True, "orange: worse"),
    f"better{BUT}": (BETTER, False, "open, blue: better, but not after Holm's correction for all rows"),
    f"worse{BUT}": (WORSE, False, "open, orange: worse, but not after Holm's correction for all rows"),
    "no detectable difference": (GREY, True, "grey: no detectable difference"),
    "no interval": (GREY, False, "no bar: too few runs for an interval"),
}


@styled
def draw(table: Table, title: str = "", anchors: Mapping[str, str] | None = None) -> Figure:
    """A row for each setting that can be compared with the baseline; BadInput if there is none.

    Args:
        anchors: for an SVG in a page, the id of an element for each setting. The name of a row links to that
            element, and the ids of the row's marks are `<id>-<number>`.
    """
    rows = sorted((row for row in table.rows if row.difference), key=lambda row: -row.difference.mean)
    if not rows:
        raise BadInput(f"nothing can be compared with the baseline {table.baseline!r}: no pair ended well")
    names = [wrapped(row.name, 34) for row in rows]
    heights = [
        max(1, 0.7 * (1 + name.count("\n"))) for name in names
    ]  # in rows; a name may take several lines
    places = [sum(heights[:k]) + heights[k] / 2 for k in range(len(heights))]
    figure = sheet(1.4 + ROW * sum(heights), title)
    panel = figure.subplots()
    panel.axvline(0, color=INK, linewidth=1)
    _write_columns(panel, 0, ("difference", "95 % interval", "n"), va="bottom", color=GREY)
    panel.set_ylim(sum(heights), 0)
    panel.set_yticks(places, names)
    for place, row, name in zip(places, rows, panel.get_yticklabels(), strict=True):
        marks = [name, *_draw_row(panel, place, row, _counted(row, table))]
        if anchors:
            name.set_url(f"#{anchors[row.setting]}")
            for number, mark in enumerate(marks):
                mark.set_gid(f"{anchors[row.setting]}-{number}")
    panel.grid(False, axis="y")
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    measured = table.headline.removesuffix(", %")
    panel.set_xlabel(folded(f"{measured}: difference to {table.baseline} (percentage points)", 80))
    footnote(figure, caption(table, rows))
    return figure


def caption(table: Table, rows: list[TableRow]) -> str:
    """The meaning of bars, colours and marks that occur."""
    home = _home(table)
    how = "seed by seed" if table.paired else "by Welch's test"
    bar = f"bar: 95 % interval of this row alone, {how}; n of {home.name}: {len(home.values)}"
    seen = {row.difference.verdict for row in rows}
    return "; ".join([bar, *(meaning for verdict, (_, _, meaning) in LOOKS.items() if verdict in seen)])


def _home(table: Table) -> TableRow:
    return next(row for row in table.rows if row.baseline)


def _counted(row: TableRow, table: Table) -> int:
    """The number of runs of a row that enter its difference."""
    return len(set(row.seeds) & set(_home(table).seeds)) if table.paired else len(row.values)


def _draw_row(panel: Axes, place: float, row: TableRow, n: int) -> list:
    """The bar, the point and the numbers of a row."""
    found = row.difference
    colour, filled, _ = LOOKS[found.verdict]
    face = colour if filled else "white"
    marks, interval = [], "none"
    if found.low is not None:
        marks += panel.plot([found.low, found.high], [place, place], color=colour, linewidth=1.8)
        interval = f"[{found.low:+.2f}, {found.high:+.2f}]"
    marks += panel.plot([found.mean], [place], "o", color=colour, markerfacecolor=face)
    numbers = (with_minus(f"{found.mean:+.2f}"), with_minus(interval), str(n))
    return [*marks, *_write_columns(panel, place, numbers)]


def _write_columns(
    panel: Axes, place: float, texts: tuple[str, str, str], va: str = "center", color: str = INK
) -> list:
    """Write numbers to the right of the panel, in columns."""
    style = {"ha": "right", "va": va, "color": color, "fontsize": 9, "annotation_clip": False}
    at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    columns = zip(texts, COLUMNS, strict=True)
    return [panel.annotate(text, (1, place), xytext=(x, 0), **at, **style) for text, x in columns]
