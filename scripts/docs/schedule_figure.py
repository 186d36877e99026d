"""The figure in docs/tricks: the learning rate during training, for every registered schedule."""

import io
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lib.core.registry import schedules
from lib.factory import build_schedule
from lib.report.style import encode, sheet, styled
from scripts.docs.trials import config_of, switch

EPOCHS = 200
POINTS = 4  # of a curve in an epoch
COLUMNS = 4
COLOURS = 64
LIMIT = 60_000  # bytes
KEY = "schedules"  # of the PNG text chunk that names them


def curve(name: str) -> tuple[list[float], list[float]]:
    """The times in epochs, and the factor of the learning rate at each, with a schedule at its defaults."""
    schedule = build_schedule(config_of(switch("schedule", name) | {"train.epochs": EPOCHS}))
    times = [step / POINTS for step in range(EPOCHS * POINTS)]
    return times, [schedule(time, EPOCHS) for time in times]


@styled
def picture() -> bytes:
    """A panel for each schedule, as a PNG."""
    names = schedules.names()
    rows = -(-len(names) // COLUMNS)
    figure = sheet(1.9 * rows, width=10)
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flat
    for name, panel in zip(names, panels, strict=False):
        panel.plot(*curve(name))
        panel.set_title(name)
        panel.set(xlim=(0, EPOCHS), ylim=(-0.05, 1.05))
        # Where a row has no panel below, the axis that they share would go without its numbers.
        panel.tick_params(labelbottom=True)
    for panel in panels[len(names) :]:
        panel.axis("off")
    figure.supxlabel("epoch")
    figure.supylabel("learning rate / base rate")
    return _small(encode(figure, dpi=100), names)


def _small(png: bytes, names: list[str]) -> bytes:
    """The picture in few colours, with the names of what it shows."""
    text, small = PngInfo(), io.BytesIO()
    text.add_text(KEY, ",".join(names))
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS).save(
        small, "PNG", optimize=True, pnginfo=text
    )
    return small.getvalue()


def shown(png: Path) -> list[str]:
    """The schedules that a figure shows."""
    with Image.open(png) as image:
        return image.text.get(KEY, "").split(",")
