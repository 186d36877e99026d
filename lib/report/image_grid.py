"""A labelled grid of images as a PNG, to show augmentations.

Images are enlarged by whole factors, so that each of their pixels is a square.
"""

import io
import textwrap
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import IdentityTransform
from PIL import Image
from torch import Tensor

from ..core.batch import Batch
from ..core.files import printable
from .style import GREY, INK, short

CELL = 96  # pixels: approximate side of an enlarged image
MARGIN, GAP, ROW_GAP, LINE = 14, 6, 16, 13  # pixels; LINE is the height of a line of text
DPI = 100


@dataclass(frozen=True)
class ImageRow:
    name: str
    detail: str  # written below the name, smaller
    images: list[list[Tensor]]  # by column, then by view: uint8 (3, H, W)
    captions: list[list[list[str]]] | None = None  # the lines under each image

    @property
    def views(self) -> int:
        return max(map(len, self.images))

    @property
    def lines(self) -> int:
        """Lines of text under an image."""
        return max(len(lines) for views in self.captions for lines in views) if self.captions else 0


def row_of(name: str, detail: str, batch: Batch, columns: Tensor, classes: tuple[str, ...] = ()) -> ImageRow:
    """A row of the grid: each column shows one image of the data set, in all its views in the batch.

    Args:
        columns: (N,) indices of images in the data set.
        classes: names of the classes, to write targets under the images.
    """
    x = displayed(batch).cpu()
    places = [(batch.index == image).nonzero()[:, 0].tolist() for image in columns]
    images = [[x[place] for place in views] for views in places]
    y = batch.y.cpu()
    captions = [[target_text(y[place], classes) for place in views] for views in places] if classes else None
    return ImageRow(name, detail, images, captions)


def displayed(batch: Batch) -> Tensor:
    """(B, 3, H, W) uint8: the pixels without normalisation."""
    x = batch.x
    if batch.scale:
        x = (x.float() - batch.scale.black) / (batch.scale.white - batch.scale.black) * 255
    x = x.float() if x.shape[1] == 3 else x.float().mean(1, keepdim=True)
    return x.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1)


def target_text(y: Tensor, classes: tuple[str, ...]) -> list[str]:
    """A target (K,) as lines: `cat 0.73`, `dog 0.27`; at most three, and the rest."""
    ranked = sorted(zip(y.tolist(), classes, strict=True), key=lambda pair: -pair[0])
    if ranked[0][0] > 0.995:
        return [short(ranked[0][1])]
    # Omit the probability that label smoothing gives to all classes.
    floor = ranked[-1][0] + 0.005
    floor = floor if sum(p < floor for p, _ in ranked) > 3 else 0.005
    shown = [pair for pair in ranked[:3] if pair[0] >= floor]
    rest = sum(p for p, _ in ranked) - sum(p for p, _ in shown)
    lines = [f"{short(name)} {p:.2f}" for p, name in shown]
    return [*lines, f"rest {rest:.2f}"] if rest >= 0.005 else lines


def draw_grid(rows: list[ImageRow], title: str = "", colours: int | None = None) -> bytes:
    """The rows as a PNG; a limited number of colours makes a smaller file."""

    images = [image for row in rows for views in row.images for image in views]
    scale = max(1, round(CELL / max(rows[0].images[0][0].shape[1:])))
    height, width = (max(image.shape[side] for image in images) * scale for side in (1, 2))
    column = max(width, CELL) + GAP
    label = 176 if any(len(row.name) > 9 or len(row.detail) > 12 for row in rows) else 84
    top = MARGIN + (2 * LINE if title else 0)
    heights = [row.views * (height + row.lines * LINE + GAP) - GAP for row in rows]
    size = (
        2 * MARGIN + label + len(rows[0].images) * column - GAP,
        top + sum(heights) + ROW_GAP * (len(rows) - 1) + MARGIN,
    )
    canvas = np.full((size[1], size[0], 3), 255, np.uint8)
    # Half a pixel more, so that rounding cannot lose a whole one.
    figure = Figure(figsize=((size[0] + 0.5) / DPI, (size[1] + 0.5) / DPI), dpi=DPI)

    def write(x: float, y: float, text: str, points: float, colour: str = INK, **options) -> None:
        options |= {"va": "top", "parse_math": False, "color": colour, "size": points}
        figure.text(x, size[1] - y, text, transform=IdentityTransform(), **options)

    if title:
        write(MARGIN, MARGIN, printable(title), 9, weight="bold")
    for row, row_height in zip(rows, heights, strict=True):
        write(MARGIN, top + 2, row.name, 8.5, weight="bold")
        detail = "\n".join(textwrap.wrap(printable(row.detail), 28)[: max(1, row_height // LINE - 2)])
        write(MARGIN, top + 2 + 1.4 * LINE, detail, 7, GREY, linespacing=1.35)
        for place, views in enumerate(row.images):
            left = MARGIN + label + place * column
            for view, image in enumerate(views):
                y = top + view * (height + row.lines * LINE + GAP)
                _paste(canvas, image, y, left, height, column - GAP, scale)
                for line, text in enumerate(row.captions[place][view] if row.captions else ()):
                    centre = left + (column - GAP) / 2
                    write(centre, y + height + 3 + line * LINE, text, 7.5, ha="center")
        top += row_height + ROW_GAP

    # Text is drawn separately and laid over the canvas: matplotlib would resample the images.
    agg = FigureCanvasAgg(figure)
    agg.draw()
    text = np.asarray(agg.buffer_rgba())[: size[1], : size[0], :3]
    image = Image.fromarray(np.minimum(canvas, text))
    image = image.quantize(colours, dither=Image.Dither.NONE) if colours else image
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _paste(
    canvas: np.ndarray, image: Tensor, top: int, left: int, height: int, width: int, scale: int
) -> None:
    """Enlarge an image (3, H, W) and write it into the centre of its cell."""
    pixels = image.permute(1, 2, 0).numpy().repeat(scale, 0).repeat(scale, 1)
    top += (height - pixels.shape[0]) // 2
    left += (width - pixels.shape[1]) // 2
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
