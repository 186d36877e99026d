"""Parts of the policies: each image draws operations with magnitudes, and each operation runs once per batch.

Draws are made on the CPU, so that they are the same for every device, and the host knows which images share
an operation without waiting for the device.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.rng import Rng
from . import image_ops
from .pipeline import Augmentation
from .resample import Byte, Fill


def _translate_x(x: Tensor, fraction: Tensor, fill: Fill) -> Tensor:
    return image_ops.translate_x(x, fraction * x.shape[3], fill)


def _translate_y(x: Tensor, fraction: Tensor, fill: Fill) -> Tensor:
    return image_ops.translate_y(x, fraction * x.shape[2], fill)


def _of(*names: str) -> dict[str, Callable[..., Tensor]]:
    return {name: getattr(image_ops, name) for name in names}


# Operations by their arguments: images; images and magnitudes; images, magnitudes and a fill.
PLAIN = {"identity": lambda x: x, **_of("autocontrast", "equalize", "invert")}
SCALED = _of("brightness", "color", "contrast", "sharpness", "hue", "posterize", "solarize")
MOVED = {
    **_of("shear_x", "shear_y", "rotate"),
    "bilinear_shear_x": partial(image_ops.shear_x, resample="bilinear"),
    "bilinear_shear_y": partial(image_ops.shear_y, resample="bilinear"),
    "bicubic_shear_x": partial(image_ops.shear_x, resample="bicubic"),
    "bicubic_shear_y": partial(image_ops.shear_y, resample="bicubic"),
    "translate_x": _translate_x,  # by a fraction of the side
    "translate_y": _translate_y,
    "translate_x_pixels": image_ops.translate_x,
    "translate_y_pixels": image_ops.translate_y,
    "bilinear_rotate": partial(image_ops.rotate, resample="bilinear"),
}
OPERATIONS = (*PLAIN, *SCALED, *MOVED, "cut_square")
NUMBER = {name: number for number, name in enumerate(OPERATIONS)}


def operate(name: str, x: Tensor, magnitude: Tensor, place: Tensor | None, fill: Fill) -> Tensor:
    """The images (n, C, H, W) after one operation; it ignores the arguments that it does not need.

    Args:
        magnitude: (n,); `place`: (n, 2) in [0, 1), the centre of a square that is cut.
        fill: value of pixels from outside the image, and of the square.
    """
    if name in PLAIN:
        return PLAIN[name](x)
    if name in SCALED:
        return SCALED[name](x, magnitude)
    if name in MOVED:
        return MOVED[name](x, magnitude, fill)
    return image_ops.cut_square(x, magnitude * x.shape[3], place, fill)


class Range(NamedTuple):
    """The magnitudes of an operation, evenly between the two ends."""

    weakest: float
    strongest: float
    signed: bool = False  # mirror the range around the weakest with probability 0.5


def geometry(shear: float, shift: float, rotation: float) -> dict[str, Range]:
    """Ranges up to these magnitudes in both directions; a shift is a fraction of the side."""
    reach = {"shear_x": shear, "shear_y": shear, "translate_x": shift, "translate_y": shift}
    return {name: Range(0, most, signed=True) for name, most in (reach | {"rotate": rotation}).items()}


# AutoAugment's table of operations. A shift is a fraction of the side (150 of 331 pixels). Posterizing is
# weakest where it keeps all bits, solarizing where no pixel is above the threshold.
COLOR = {"posterize": Range(8, 4), "solarize": Range(256, 0)}
AUTOAUGMENT = geometry(shear=0.3, shift=150 / 331, rotation=30) | COLOR
ENHANCEMENTS = ("brightness", "color", "contrast", "sharpness")

# The fourteen operations of RandAugment and TrivialAugment.
FOURTEEN = (
    *("identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize"),
    *("contrast", "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y"),
)


def magnitudes(ranges: Mapping[str, Range], operation: Tensor, strength: Tensor, coin: Tensor) -> Tensor:
    """The magnitudes of drawn operations.

    Args:
        operation: numbers of operations, of any shape; those without a range get 0.
        strength: 0 for the weakest to 1 for the strongest.
        coin: False mirrors a signed range.
    """
    table = torch.tensor([ranges.get(name, Range(0, 0)) for name in OPERATIONS], dtype=torch.float64)
    weakest, strongest, signed = table[operation].unbind(-1)
    reach = (strongest - weakest) * strength
    return weakest + torch.where((signed > 0) & ~coin, -reach, reach)


@dataclass(frozen=True)
class Drawn:
    """The drawn operations of each image, one after the other. On the CPU."""

    operation: Tensor  # (n, k) numbers of OPERATIONS
    magnitude: Tensor  # (n, k)
    place: Tensor | None = None  # (n, k, 2) in [0, 1), for operations that need one

    def apply(self, x: Tensor, fill: Fill) -> Tensor:
        """The images after their operations."""
        image = torch.arange(len(x))  # the image at each place
        for k in range(self.operation.shape[1]):
            # Sort images by operation: each operation gets a slice, and the batch is copied once for all.
            order = torch.argsort(self.operation[image, k], stable=True)
            image = image[order]
            ends = torch.bincount(self.operation[:, k], minlength=len(OPERATIONS)).cumsum(0)[:-1]
            x = x.index_select(0, order.to(x.device, non_blocking=True))
            slices = zip(OPERATIONS, x.tensor_split(ends), image.tensor_split(ends), strict=True)
            x = torch.cat([self._one(k, *each, fill) for each in slices if len(each[1])])
        return x.index_select(0, torch.argsort(image).to(x.device, non_blocking=True))

    def _one(self, k: int, name: str, x: Tensor, image: Tensor, fill: Fill) -> Tensor:
        place = None if self.place is None else self.place[image, k]
        return operate(name, x, self.magnitude[image, k], place, fill)


@dataclass(frozen=True, kw_only=True)
class Policy(Augmentation):
    """An augmentation that draws operations for each image."""

    fill: Byte = 128  # grey value of pixels from outside the image

    def draw(self, count: int, rng: Rng) -> Drawn:
        """The operations of `count` images."""
        raise NotImplementedError

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        return batch.replace(x=self.draw(len(batch), rng).apply(batch.x, self.fill))
