"""Place labels next to lines and points, without covering each other or the data."""

from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ..style import GREY, folded, wrapped

SIZE = 9  # points
HEIGHT = 1.4  # of a line of text, in font sizes
WIDE = 28  # characters: longer names are wrapped


def spread(wanted: list[float], heights: list[float]) -> list[float]:
    """Places between 0 and 1, as close to the wanted ones as possible without overlap, in the same order.

    Args:
        wanted: centres of the labels, in any order.
        heights: of the labels; if there is no room for all, they extend beyond the top.
    """
    from scipy.optimize import isotonic_regression  # imported late: it takes half a second

    if not wanted:
        return []
    order = np.argsort(wanted, kind="stable")
    sorted_heights = np.asarray(heights)[order]
    offsets = sorted_heights.cumsum() - sorted_heights / 2
    # Minus the heights of all labels below, places must not decrease.
    levels = isotonic_regression(np.asarray(wanted)[order] - offsets).x
    places = np.empty(len(order))
    places[order] = levels.clip(0, max(0.0, 1 - sorted_heights.sum())) + offsets
    return places.tolist()


def name_ends(panel: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write names to the right of a panel, each at the height of the end of its line if there is room.

    Args:
        ends: x and y of a line's last point, the name, and the line's colour.
    """
    figure = panel.figure
    figure.get_layout_engine().execute(figure)  # only now is the height of the panel known
    letter = SIZE / 72 * figure.dpi / panel.bbox.height  # as a fraction of the height of the panel
    names = [wrapped(name, WIDE) for _, _, name, _ in ends]
    inside = panel.transScale + panel.transLimits
    wanted = [inside.transform((x, y))[1] for x, y, _, _ in ends]
    heights = [HEIGHT * letter * (1 + name.count("\n")) for name in names]
    for (x, y, _, colour), name, place in zip(ends, names, spread(wanted, heights), strict=True):
        panel.text(1.08, place, name, transform=panel.transAxes, va="center", fontsize=SIZE)
        _lead(panel, (x, y), (1.07, place), "axes fraction", colour)


def name_points(panel: Axes, points: list[tuple[float, float, str]], taken: list[tuple[float, ...]]) -> None:
    """Write names next to points, where they cover as little as possible, those of the highest points first.

    Args:
        taken: left, bottom, right and top of areas to keep free: error bars, lines.
    """
    figure = panel.figure
    figure.get_layout_engine().execute(figure)
    scale = figure.dpi / 72  # pixels per point
    bars = []
    for one, other in ((box[:2], box[2:]) for box in taken):
        (left, bottom), (right, top) = panel.transData.transform([one, other])
        bars.append((left - 4 * scale, bottom - 3 * scale, right + 4 * scale, top + 3 * scale))
    written: list[tuple[float, ...]] = []
    for x, y, name in sorted(points, key=lambda point: -point[1]):
        style = {"textcoords": "offset points", "va": "center", "fontsize": SIZE}
        text = panel.annotate(wrapped(name, WIDE), (x, y), xytext=(0, 0), **style)
        box = text.get_window_extent()
        wide, high = box.width + 2 * scale, box.height
        at = panel.transData.transform((x, y))
        best = None
        for steps, side in product(range(40), (1, -1)):
            # Right and left of the point, then further and further up and down.
            rise = (steps + 1) // 2 * (1 if steps % 2 else -1) * SIZE * 0.6 * scale
            for push in (9, 20):
                left = at[0] + side * push * scale - (wide if side < 0 else 0)
                place = (left, at[1] + rise - high / 2, left + wide, at[1] + rise + high / 2)
                cost = sum(100 * _shared(place, other) for other in written)
                cost += sum(10 * _shared(place, other) for other in bars) + _outside(place, panel.bbox)
                cost += SIZE * scale * (abs(rise) + (push - 9) * scale) + (side < 0)
                if best is None or cost < best[0]:
                    best = cost, place, side, push, rise
        _, place, side, push, rise = best
        written.append(place)
        text.set(ha="left" if side > 0 else "right", position=(side * push, rise / scale))
        if rise or push > 9:
            _lead(panel, (x, y), (side * (push - 1), rise / scale), "offset points", GREY)


def _lead(
    panel: Axes, point: tuple[float, float], name: tuple[float, float], where: str, colour: str
) -> None:
    """Draw a thin line from a name to its point."""
    style = {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3, "patchA": None}
    panel.annotate("", point, xytext=name, textcoords=where, annotation_clip=False, arrowprops=style)


def _shared(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The area of the overlap of two boxes (left, bottom, right, top)."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)


def _outside(place: tuple[float, ...], box: Bbox) -> float:
    """The cost of a label that extends beyond the panel."""
    left, bottom, right, top = place
    beyond = (box.x0 - left, box.y0 - bottom, right - box.x1, top - box.y1)
    return 1000 * sum(max(0.0, over) for over in beyond)


def footnote(figure: Figure, text: str) -> None:
    """Write a note below a figure, small and grey."""
    figure.supxlabel(folded(text, 135), x=0.01, ha="left", fontsize=8.5, color=GREY)
