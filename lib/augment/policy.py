"""What all policies share: every image draws operations and magnitudes; each operation is done once.

The draws are made on the CPU, so that they are the same for every device, and so that the host knows which
images share an operation without asking the device.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import require
from ..core.rng import Rng
from . import image_ops
from .pipeline import Augmentation

# Each is called with images, their magnitudes, two places in [0, 1) for each image, and a fill.
OPERATIONS = {
    "identity": lambda x, m, place, fill: x,
    "shear_x": lambda x, m, place, fill: image_ops.shear_x(x, m, fill),
    "shear_y": lambda x, m, place, fill: image_ops.shear_y(x, m, fill),
    "bicubic_shear_x": lambda x, m, place, fill: image_ops.shear_x(x, m, fill, bicubic=True),
    "bicubic_shear_y": lambda x, m, place, fill: image_ops.shear_y(x, m, fill, bicubic=True),
    "translate_x": lambda x, m, place, fill: image_ops.translate_x(x, m * x.shape[3], fill),
    "translate_y": lambda x, m, place, fill: image_ops.translate_y(x, m * x.shape[2], fill),
    "translate_x_pixels": lambda x, m, place, fill: image_ops.translate_x(x, m, fill),
    "translate_y_pixels": lambda x, m, place, fill: image_ops.translate_y(x, m, fill),
    "rotate": lambda x, m, place, fill: image_ops.rotate(x, m, fill),
    "brightness": lambda x, m, place, fill: image_ops.brightness(x, m),
    "color": lambda x, m, place, fill: image_ops.color(x, m),
    "contrast": lambda x, m, place, fill: image_ops.contrast(x, m),
    "sharpness": lambda x, m, place, fill: image_ops.sharpness(x, m),
    "posterize": lambda x, m, place, fill: image_ops.posterize(x, m),
    "solarize": lambda x, m, place, fill: image_ops.solarize(x, m),
    "cut_square": lambda x, m, place, fill: image_ops.cut_square(x, m * x.shape[3], place, fill),
    "autocontrast": lambda x, m, place, fill: image_ops.autocontrast(x),
    "equalize": lambda x, m, place, fill: image_ops.equalize(x),
    "invert": lambda x, m, place, fill: image_ops.invert(x),
    "bilinear_shear_x": lambda x, m, place, fill: image_ops.shear_x(x, m, fill, bilinear=True),
    "bilinear_shear_y": lambda x, m, place, fill: image_ops.shear_y(x, m, fill, bilinear=True),
    "bilinear_rotate": lambda x, m, place, fill: image_ops.rotate(x, m, fill, bilinear=True),
    "hue": lambda x, m, place, fill: image_ops.hue(x, m),
}
NUMBER = {name: number for number, name in enumerate(OPERATIONS)}


class Range(NamedTuple):
    """The magnitudes of an operation, evenly between the two ends."""

    weakest: float
    strongest: float
    signed: bool = False  # a coin decides whether to go the other way from the weakest


# AutoAugment's table of operations. A shift is a share of the side (150 of 331 pixels); posterizing is the
# weakest where it keeps all bits, solarizing where no pixel is above the threshold.
AUTOAUGMENT_GEOMETRY = {
    "shear_x": Range(0, 0.3, signed=True),
    "shear_y": Range(0, 0.3, signed=True),
    "translate_x": Range(0, 150 / 331, signed=True),
    "translate_y": Range(0, 150 / 331, signed=True),
    "rotate": Range(0, 30, signed=True),
}
AUTOAUGMENT_COLOR = {"posterize": Range(8, 4), "solarize": Range(256, 0)}
ENHANCEMENTS = ("brightness", "color", "contrast", "sharpness")

# The fourteen of RandAugment and TrivialAugment.
FOURTEEN = (
    *("identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize"),
    *("contrast", "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y"),
)


def magnitudes(ranges: Mapping[str, Range], operation: Tensor, strength: Tensor, coin: Tensor) -> Tensor:
    """The magnitudes of drawn operations.

    Args:
        operation: numbers of operations, of any shape; those without a range get 0.
        strength: 0 for the weakest to 1 for the strongest.
        coin: True for the way of the range, False for the other way where it is signed.
    """
    table = torch.tensor([ranges.get(name, Range(0, 0)) for name in OPERATIONS], dtype=torch.float64)
    weakest, strongest, signed = table[operation].unbind(-1)
    reach = (strongest - weakest) * strength
    return weakest + torch.where((signed > 0) & ~coin, -reach, reach)


@dataclass(frozen=True)
class Drawn:
    """What every image gets, one operation after the other. On the CPU."""

    operation: Tensor  # (n, k) numbers of OPERATIONS
    magnitude: Tensor  # (n, k)
    place: Tensor | None = None  # (n, k, 2) in [0, 1), for operations that need one

    def apply(self, x: Tensor, fill: image_ops.Fill) -> Tensor:
        """The images after their operations."""
        lies = torch.arange(len(x))  # which image is where
        for k in range(self.operation.shape[1]):
            # Images of one operation side by side: a view each, and one copy of the batch for all.
            order = torch.argsort(self.operation[lies, k], stable=True)
            lies = lies[order]
            ends = torch.bincount(self.operation[:, k], minlength=len(OPERATIONS)).cumsum(0)[:-1]
            x = x.index_select(0, order.to(x.device, non_blocking=True))
            groups = zip(OPERATIONS.values(), x.tensor_split(ends), lies.tensor_split(ends), strict=True)
            x = torch.cat(
                [self._one(k, function, *group, fill) for function, *group in groups if len(group[0])]
            )
        return x.index_select(0, torch.argsort(lies).to(x.device, non_blocking=True))

    def _one(self, k: int, function, x: Tensor, index: Tensor, fill: image_ops.Fill) -> Tensor:
        place = None if self.place is None else self.place[index, k]
        return function(x, self.magnitude[index, k], place, fill)


@dataclass(frozen=True, kw_only=True)
class Policy(Augmentation):
    """What every policy has."""

    fill: int = 128  # the grey that comes in from outside an image

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.fill <= 255, "fill", "from 0 to 255", self.fill)

    def draw(self, count: int, rng: Rng) -> Drawn:
        """The operations of so many images."""
        raise NotImplementedError

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        return batch.replace(x=self.draw(len(batch), rng).apply(batch.x, self.fill))
