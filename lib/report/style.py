"""The style of all figures, and their reproducible encoding: the same figure gives the same bytes.

Modules that draw import matplotlib, which takes half a second; programs that may not draw import them late.
"""

import functools
import io
import re
import textwrap
import warnings
from collections.abc import Callable

import matplotlib.style
from cycler import cycler
from matplotlib.figure import Figure

from ..core.files import printable

INK, GREY, PALE = "#1f2328", "#656d76", "#c4c9d0"  # text, secondary text, background
# Okabe and Ito's colours, safe for colour blindness, without yellow, which is invisible on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
BETTER, WORSE = PALETTE[:2]
WIDTH = 9.0  # inches: the width of a README, where text then has its nominal size
FORMATS = ("png", "svg", "pdf")

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it exists on every machine
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7ea",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.framealpha": 0.9,
    "lines.linewidth": 1.6,
    "figure.facecolor": "white",
    "svg.hashsalt": "one picture, one file",  # any constant; otherwise the ids in an SVG are random
    "svg.fonttype": "path",  # text as shapes: without the font, a viewer would draw it wider or narrower
}


def styled(draw: Callable) -> Callable:
    """Decorate a function that draws, to use this style instead of the user's settings of matplotlib."""

    @functools.wraps(draw)
    def drawn(*arguments, **options):
        style = STYLE | {"axes.prop_cycle": cycler(color=PALETTE)}
        with matplotlib.style.context(style, after_reset=True):
            return draw(*arguments, **options)

    return drawn


def sheet(height: float, title: str = "", width: float = WIDTH) -> Figure:
    """An empty figure, in inches, with a layout that makes room for all texts."""
    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(plain(title))
    return figure


@styled
def encode(figure: Figure, kind: str = "png", dpi: int = 150, fonttype: str = "path") -> bytes:
    """A figure as a file, without the date and the versions, so that the same figure gives the same bytes.

    Args:
        fonttype: of an SVG: text as shapes (path), or as text (none) for a page that sets the font.
    """
    buffer = io.BytesIO()
    omitted = {
        "png": ("Software",),
        "svg": ("Date", "Creator"),
        "pdf": ("CreationDate", "Creator", "Producer"),
    }
    # A name may contain letters that the font lacks.
    with warnings.catch_warnings(action="ignore"), matplotlib.rc_context({"svg.fonttype": fonttype}):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=dict.fromkeys(omitted[kind]))
    return buffer.getvalue()


def wrapped(name: str, width: int) -> str:
    """A name in lines of similar length, broken after characters that join words."""
    parts = re.split(r"(?<=[ _\-+,/:=])(?=\w)", plain(name))
    lines = _filled(parts, width)
    while width > 1 and len(narrower := _filled(parts, width - 1)) == len(lines):
        width, lines = width - 1, narrower
    return "\n".join(line.rstrip() for line in lines)


def _filled(parts: list[str], width: int) -> list[str]:
    """Lines filled with parts up to the width; a longer part has its own line."""
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return lines


def folded(text: str, width: int) -> str:
    """Text in lines of at most this width, broken only at spaces."""
    return "\n".join(textwrap.wrap(plain(text), width, break_long_words=False, break_on_hyphens=False))


def short(name: str, width: int = 12) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"


def plain(name: str) -> str:
    """A name that a figure can draw, without formulas: dollar signs are escaped."""
    return printable(name).replace("$", r"\$")
