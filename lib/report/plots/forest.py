"""A forest plot: the difference of each setting to the baseline with its interval, the best above."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.errors import BadInput
from ..style import BETTER, GREY, INK, WORSE, folded, sheet, styled, wrapped
from ..table import Row, Table
from .labels import aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.28  # inches
COLUMNS = (58, 154, 178)  # points right of the panel where the columns of numbers end

# By what the table says of a row: its colour, whether its point is filled, and what that means.
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
def draw(table: Table, title: str = "") -> Figure:
    """A row for each setting that can be compared.

    Args:
        table: has a baseline.
    Raises:
        BadInput: there is nothing to compare the baseline with.
    """
    rows = sorted((row for row in table.rows if row.difference), key=lambda row: -row.difference.mean)
    if not rows:
        raise BadInput(
            f"nothing can be compared with the baseline {table.baseline!r}: no pair of rows ended well"
        )
    names = [wrapped(row.name, 34) for row in rows]
    tall = [max(1, 0.7 * (1 + name.count("\n"))) for name in names]  # in rows, of names over several lines
    places = [sum(tall[:k]) + tall[k] / 2 for k in range(len(tall))]
    figure = sheet(1.4 + ROW * sum(tall), title)
    panel = figure.subplots()
    panel.axvline(0, color=INK, linewidth=1)
    _beside(panel, 0, ("difference", "95 % interval", "n"), va="bottom", color=GREY)
    for place, row in zip(places, rows, strict=True):
        found = row.difference
        colour, filled, _ = LOOKS[found.verdict]
        if found.low is not None:
            panel.plot([found.low, found.high], [place, place], color=colour, linewidth=1.8)
        panel.plot([found.mean], [place], "o", color=colour, markerfacecolor=colour if filled else "white")
        ends = "none" if found.low is None else f"[{_signed(found.low)}, {_signed(found.high)}]"
        _beside(panel, place, (_signed(found.mean), ends, str(_counted(row, table))))
    panel.set_ylim(sum(tall), 0)
    panel.set_yticks(places, names)
    panel.grid(False, axis="y")
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    what = table.headline.removesuffix(", %")
    panel.set_xlabel(folded(f"{what}: difference to {table.baseline} (percentage points)", 80))
    aside(figure, caption(table, rows))
    return figure


def caption(table: Table, rows: list[Row]) -> str:
    """What bars, colours and marks are, of those that occur."""
    home = _home(table)
    how = "seed by seed" if table.paired else "by Welch's test"
    said = [f"bar: 95 % interval of this row alone, {how}; n of {home.name}: {len(home.values)}"]
    seen = {row.difference.verdict for row in rows}
    return "; ".join(said + [meaning for verdict, (_, _, meaning) in LOOKS.items() if verdict in seen])


def _home(table: Table) -> Row:
    return next(row for row in table.rows if row.baseline)


def _counted(row: Row, table: Table) -> int:
    """How many runs of a row its difference was taken from."""
    return len(set(row.seeds) & set(_home(table).seeds)) if table.paired else len(row.values)


def _beside(
    panel: Axes, place: float, texts: tuple[str, str, str], va: str = "center", color: str = INK
) -> None:
    """Numbers right of the panel, in columns."""
    for text, points in zip(texts, COLUMNS, strict=True):
        panel.annotate(
            text,
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(points, 0),
            textcoords="offset points",
            ha="right",
            va=va,
            color=color,
            fontsize=9,
            annotation_clip=False,
        )


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")  # as wide as the plus
