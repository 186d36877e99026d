"""Eight small pictures, drawn here so that the documentation shows pixels of no data set.

Each has its own colours, gradients that show where a part is cut or pasted, and a left, a right, an above and
a below, so that flips and rotations are seen.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

CLASSES = ("house", "boat", "fish", "tree", "car", "moon", "letter", "balloon")
SIDE = 32
FINE = 8  # factor of the size at which it is drawn, before averaging

Colour = tuple[int, int, int]


def drawings() -> Tensor:
    """(8, 3, 32, 32) uint8, one image of each of the classes in their order."""
    images = [globals()[f"_{name}"]() for name in CLASSES]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


class _Canvas:
    """Coordinates are pixels of the small image, and may be fractions."""

    def __init__(self, above: Colour, below: Colour):
        ramp = np.linspace(0, 1, SIDE * FINE)[:, None, None]
        rows = np.array(above) * (1 - ramp) + np.array(below) * ramp
        self.image = Image.fromarray(rows.round().astype(np.uint8).repeat(SIDE * FINE, 1))
        self.sky = self.image.copy()
        self.pen = ImageDraw.Draw(self.image)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self.pen.rectangle([left * FINE, top * FINE, right * FINE - 1, bottom * FINE - 1], colour)

    def disc(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        self.pen.ellipse([c * FINE for c in corners], colour)

    def bite(self, x: float, y: float, size: float) -> None:
        """Takes a disc of what is drawn away again."""
        disc = Image.new("1", self.image.size)
        corners = [x - size / 2, y - size / 2, x + size / 2, y + size / 2]
        ImageDraw.Draw(disc).ellipse([c * FINE for c in corners], 1)
        self.image.paste(self.sky, mask=disc)

    def shape(self, colour: Colour, *points: tuple[float, float]) -> None:
        self.pen.polygon([(x * FINE, y * FINE) for x, y in points], colour)

    def line(self, colour: Colour, width: float, *points: tuple[float, float]) -> None:
        self.pen.line([(x * FINE, y * FINE) for x, y in points], colour, round(width * FINE), joint="curve")

    def pixels(self) -> np.ndarray:
        return np.asarray(self.image.resize((SIDE, SIDE), Image.Resampling.BOX))


def _house() -> np.ndarray:
    c = _Canvas((120, 190, 240), (214, 236, 248))
    c.disc(27, 5, 7, 7, (255, 214, 64))
    c.box(0, 26, 32, 32, (104, 172, 84))
    c.box(8, 5, 11, 12, (150, 84, 70))
    c.shape((196, 62, 52), (3, 15), (14, 6), (25, 15))
    c.box(5, 15, 23, 28, (246, 226, 184))
    c.box(8, 19, 12, 28, (122, 82, 56))
    c.box(15, 18, 21, 23, (84, 146, 206))
    c.box(17.6, 18, 18.4, 23, (246, 226, 184))
    return c.pixels()


def _boat() -> np.ndarray:
    c = _Canvas((250, 196, 130), (255, 236, 200))
    c.box(0, 22, 32, 32, (38, 110, 170))
    c.box(0, 27, 32, 32, (26, 84, 142))
    c.box(14, 3, 15, 22, (92, 62, 48))
    c.shape((250, 250, 246), (15.5, 4), (15.5, 19), (27, 19))
    c.shape((232, 88, 66), (13.5, 8), (13.5, 19), (5, 19))
    c.shape((128, 66, 46), (3, 21), (29, 21), (25, 27), (8, 27))
    return c.pixels()


def _fish() -> np.ndarray:
    c = _Canvas((70, 190, 206), (14, 78, 128))
    c.shape((240, 120, 30), (21, 16), (30, 9), (29, 16), (30, 24))
    c.shape((240, 120, 30), (12, 10), (17, 5), (20, 11))
    c.disc(13.5, 16.5, 20, 14, (255, 152, 46))
    c.shape((255, 240, 226), (14, 10), (17, 10), (17, 23), (14, 23))
    c.disc(8, 14.5, 4, 4, (255, 255, 255))
    c.disc(7.6, 14.5, 2, 2, (20, 20, 30))
    for x, y, size in ((4, 6, 3), (7, 2.5, 2), (25, 29, 2)):
        c.disc(x, y, size, size, (196, 236, 244))
    return c.pixels()


def _tree() -> np.ndarray:
    c = _Canvas((222, 238, 214), (246, 244, 206))
    c.box(0, 27, 32, 32, (150, 124, 72))
    c.shape((104, 72, 44), (13, 30), (14.5, 16), (17.5, 16), (19, 30))
    c.line((104, 72, 44), 1.6, (16, 20), (24, 13))
    c.disc(12, 11, 17, 15, (52, 128, 62))
    c.disc(10, 8, 10, 8, (88, 164, 78))
    c.disc(24, 11, 8, 7, (52, 128, 62))
    for x, y in ((8, 14), (15, 9), (25, 11)):
        c.disc(x, y, 2.6, 2.6, (214, 48, 52))
    return c.pixels()


def _car() -> np.ndarray:
    c = _Canvas((196, 204, 220), (236, 232, 240))
    c.box(0, 23, 32, 32, (92, 96, 104))
    for x in (1, 12, 23):
        c.box(x, 27.5, x + 6, 28.7, (238, 226, 150))
    c.shape((116, 60, 160), (2, 23), (2, 16), (8, 15), (12, 9), (22, 9), (25, 16), (30, 17), (30, 23))
    c.shape((186, 226, 244), (10, 15), (13, 10.5), (16, 10.5), (16, 15))
    c.shape((186, 226, 244), (17.5, 10.5), (21, 10.5), (23, 15), (17.5, 15))
    c.disc(30, 18.5, 3, 2.4, (255, 226, 90))
    for x in (8.5, 23.5):
        c.disc(x, 23, 7, 7, (30, 32, 38))
        c.disc(x, 23, 3, 3, (190, 194, 202))
    return c.pixels()


def _moon() -> np.ndarray:
    c = _Canvas((10, 12, 46), (74, 54, 120))
    c.disc(11, 11, 15, 15, (250, 238, 178))
    c.bite(15, 9, 13)
    for x, y, size in ((25, 5, 2.2), (28, 14, 1.6), (20, 18, 1.4), (4, 22, 1.6)):
        c.disc(x, y, size, size, (255, 255, 240))
    c.shape((26, 34, 52), (0, 32), (0, 28), (9, 23), (17, 28), (26, 20), (32, 25), (32, 32))
    return c.pixels()


def _letter() -> np.ndarray:
    c = _Canvas((252, 240, 150), (246, 180, 60))
    ink = (30, 60, 150)
    c.box(7, 5, 11.5, 27, ink)
    c.disc(16, 11.5, 15, 13, ink)
    c.box(7, 5, 16, 9, ink)
    c.disc(16, 11.5, 7, 5, (250, 218, 116))
    c.box(11.5, 9, 16, 14, (250, 218, 116))
    c.shape(ink, (12, 16.5), (17.5, 16), (25, 27), (19.5, 27))
    c.disc(27, 26, 4, 4, (214, 40, 60))
    return c.pixels()


def _balloon() -> np.ndarray:
    c = _Canvas((86, 150, 226), (206, 230, 250))
    c.disc(7, 24, 12, 5, (250, 252, 255))
    c.disc(27, 8, 8, 4, (250, 252, 255))
    c.disc(16, 12, 18, 20, (222, 48, 92))
    c.shape((222, 48, 92), (8, 16), (24, 16), (18.5, 24), (13.5, 24))
    c.disc(13.5, 12, 7, 19.5, (252, 190, 70))
    c.disc(12, 8, 3, 5, (255, 232, 190))
    c.box(13.5, 25.5, 18.5, 29.5, (128, 84, 52))
    return c.pixels()
