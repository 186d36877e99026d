"""A forest plot: the difference of each setting to the baseline with its interval, the best above."""

import math
from dataclasses import dataclass

from lib.report.plots.labels import aside
from lib.report.style import BETTER, GREY, INK, WIDTH, WORSE, plain, styled, wrapped

ROW = 0.28  # inches
COLUMNS = (46, 142, 166)  # points right of the panel where the columns of numbers end


@dataclass(frozen=True)
class Effect:
    name: str
    n: int  # runs that the difference was taken from
    mean: float  # percentage points
    low: float  # the ends of the interval; nan where there is none
    high: float

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)

    @property
    def colour(self) -> str:
        """Grey where the interval holds zero or is unknown."""
        return BETTER if self.low > 0 else WORSE if self.high < 0 else GREY

    @property
    def numbers(self) -> tuple[str, str, str]:
        """Mean, interval and n, in words."""
        ends = f"[{_signed(self.low)}, {_signed(self.high)}]" if self.has_interval else "none"
        return _signed(self.mean), ends, str(self.n)


@styled
def draw(effects: list[Effect], label: str, remark: str, title: str = ""):
    """A row for each effect.

    Args:
        label: what the differences are, with their unit.
        remark: what the intervals are.
    Returns:
        A matplotlib Figure.
    """
    from matplotlib.figure import Figure

    effects = sorted(effects, key=lambda effect: -effect.mean)
    names = [wrapped(effect.name, 34) for effect in effects]
    tall = [max(1, 0.7 * (1 + name.count("\n"))) for name in names]  # in rows, of names over several lines
    rows = [sum(tall[:k]) + tall[k] / 2 for k in range(len(tall))]
    figure = Figure(figsize=(WIDTH, 1.4 + ROW * sum(tall)), layout="constrained")
    panel = figure.subplots()
    panel.axvline(0, color=INK, linewidth=1)
    for row, effect in zip(rows, effects, strict=True):
        if effect.has_interval:
            panel.plot([effect.low, effect.high], [row, row], color=effect.colour, linewidth=1.8)
        face = effect.colour if effect.has_interval else "white"
        panel.plot([effect.mean], [row], "o", color=effect.colour, markerfacecolor=face)
        _beside(panel, row, effect.numbers)
    panel.set_ylim(sum(tall), 0)
    _beside(panel, 0, ("mean", "interval", "n"), va="bottom", color=GREY)
    panel.set_yticks(rows, names)
    panel.grid(False, axis="y")
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.set_xlabel(label)
    if title:
        figure.suptitle(plain(title))
    hollow = (
        "" if all(effect.has_interval for effect in effects) else "; hollow: too few runs for an interval"
    )
    aside(figure, f"{remark}; grey: the interval holds zero{hollow}")
    return figure


def _beside(panel, row: float, texts: tuple[str, str, str], va: str = "center", color: str = INK) -> None:
    """Numbers right of the panel, in columns."""
    for text, points in zip(texts, COLUMNS, strict=True):
        panel.annotate(
            text,
            (1, row),
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
