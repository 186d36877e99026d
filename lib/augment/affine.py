"""Random affine maps around the centre of an image."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from ..core.batch import Batch
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .image_ops import rotate
from .pipeline import Augmentation
from .resample import Byte, affine

Resample = Literal["nearest", "bilinear"]


@augmentations.register("affine", stage=Stage.GEOMETRY, aliases=("random_affine",))
@dataclass(frozen=True)
class Affine(Augmentation):
    """Random affine map: shear, scale, rotate and shift each image around its centre."""

    degrees: Annotated[float, Interval(ge=0, le=180)] = 15.0  # largest rotation, in both directions
    translate: Annotated[float, Interval(ge=0, le=1)] = 0.1  # largest shift, as a fraction of the side
    # Below 0.1 hardly a pixel is left, and places are too far away for 16 bits.
    scale_min: Annotated[float, Ge(0.1)] = 0.9  # smallest factor of the content's size
    scale_max: float = 1.1  # largest factor of the content's size
    shear: Annotated[float, Interval(ge=0, le=80)] = 10.0  # largest shear in degrees, in both directions
    resample: Resample = "nearest"  # nearest pixel, or a mean of the four around
    fill: Byte = 0  # value of pixels from outside the image; 255 is white

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        matrix = inverse(*self.drawn(len(batch), rng), batch.x.shape[-2:])
        return batch.replace(x=affine(batch.x, matrix, self.fill, self.resample))

    def drawn(self, count: int, rng: Rng) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clockwise degrees (count,), shifts (count, 2) as fractions of W and H, scales, shears (count,)."""
        u = rng.host_uniform(5, count)
        signed = 2 * u - 1
        scale = self.scale_min + (self.scale_max - self.scale_min) * u[3]
        return self.degrees * signed[0], self.translate * signed[1:3].T, scale, self.shear * signed[4]


@augmentations.register("rotation", stage=Stage.GEOMETRY, aliases=("random_rotation",))
@dataclass(frozen=True)
class Rotation(Augmentation):
    """Random rotation of each image around its centre."""

    degrees: Annotated[float, Interval(gt=0, le=180)] = 15.0  # largest angle, in both directions
    resample: Resample = "nearest"  # nearest pixel, or a mean of the four around
    fill: Byte = 0  # value of pixels from outside the image; 255 is white

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        degrees = self.degrees * (2 * rng.host_uniform(len(batch)) - 1)
        return batch.replace(x=rotate(batch.x, degrees, self.fill, self.resample))


def inverse(angle: Tensor, shift: Tensor, scale: Tensor, shear: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, 2, 3) maps from the result to the image. The inverses shear first, and shift last."""
    angle, shear = angle * (math.pi / 180), shear * (math.pi / 180)
    cos, sin, tan = angle.cos() / scale, angle.sin() / scale, shear.tan()
    rotation = torch.stack((cos, sin, -sin, cos), 1).view(-1, 2, 2)
    zero, one = torch.zeros_like(tan), torch.ones_like(tan)
    linear = torch.stack((one, tan, zero, one), 1).view(-1, 2, 2) @ rotation
    H, W = size
    centre = torch.tensor([W / 2, H / 2], dtype=linear.dtype)
    offset = centre - (linear * (centre + shift * 2 * centre)[:, None]).sum(2)
    return torch.cat((linear, offset[:, :, None]), 2)
