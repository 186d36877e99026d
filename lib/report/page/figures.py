"""The figures of `scripts.plot` as SVG elements of the page."""

import re

from matplotlib.figure import Figure

from ..plots import curves, forest
from ..plots.epochs import fault
from ..style import encode
from .content import Content, Setting
from .markup import Markup, join, tag


def effects(content: Content) -> Markup:
    """A forest plot for each data set with a baseline; empty if none has one."""
    parts = []
    for table in content.tables:
        if any(row.difference for row in table.rows):
            settings = enumerate(content.settings)
            anchors = {one.row.setting: anchor(k) for k, one in settings if one.dataset == table.dataset}
            head = tag("h3", table.dataset) if len(content.tables) > 1 else None
            parts.append(join(head, inline(forest.draw(table, anchors=anchors), "forest")))
    return tag("section", tag("h2", "Effects"), *parts, id="effects") if parts else Markup("")


def anchor(place: int) -> str:
    """The id of a setting in the table."""
    return f"setting-{place}"


def run_curves(content: Content) -> Markup:
    """The curves of each setting's runs; the dialog of a run highlights those of the run."""
    return join(*(tag("template", _curves(one), id=f"curves-{k}") for k, one in enumerate(content.settings)))


def _curves(setting: Setting) -> Markup | None:
    epochs = [[] if fault(run) else run.epochs for run in setting.runs]
    return inline(curves.draw_runs(epochs), "curves") if any(epochs) else None


def inline(figure: Figure, kind: str) -> Markup:
    """A figure as an element, with text as text in the font of the style sheet.

    The policy of the page forbids style attributes, so each property becomes an attribute, which SVG allows.
    """
    svg = encode(figure, "svg", fonttype="none").decode()
    svg = re.sub("<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r">\s+<", "><", re.sub("<[a-z][^>]*>", _short, svg))
    return tag("figure", Markup(svg), class_=f"plot {kind}")


def _short(element: re.Match) -> str:
    """The start of an element with properties as attributes, two decimals, and no unused names."""
    text = re.sub(r"(\.\d\d)\d+", r"\1", " ".join(element[0].split()))
    text = re.sub(r' id="[\w.]+_\d+"| transform="rotate\(-0 [^"]*"|font-family: [^;]*;', "", text)
    return re.sub(
        ' style="(.*?)"', lambda style: re.sub(" *([a-z-]+): ([^;]*);?", r' \1="\2"', style[1]), text
    )
