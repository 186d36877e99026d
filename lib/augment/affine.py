"""Random affine map: each image sheared, scaled, turned and shifted around its centre, as it draws."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation
from .resample import affine


@augmentations.register("affine", stage=Stage.GEOMETRY, aliases=("random_affine",))
@dataclass(frozen=True)
class Affine(Augmentation):
    degrees: float = 15.0  # the largest angle of rotation, either way
    translate: float = 0.1  # the farthest shift along each side, as a share of that side
    scale_min: float = 0.9  # the smallest size of the content over its own
    scale_max: float = 1.1  # the largest
    shear: float = 10.0  # the largest angle, in degrees, by which upright lines lean, either way
    resample: Literal["nearest", "bilinear"] = "nearest"  # take the nearest pixel, or mix the four around
    fill: int = 0  # what comes in from outside: from 0 for black to 255 for white

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.degrees <= 180, "degrees", "from 0 to 180", self.degrees)
        require(0 <= self.translate <= 1, "translate", "from 0 to 1", self.translate)
        # The rest of the range leaves hardly a pixel, and places too far away for 16 bits.
        rule = f"at least 0.1 and at most scale_max {self.scale_max}"
        require(0.1 <= self.scale_min <= self.scale_max, "scale_min", rule, self.scale_min)
        require(0 <= self.shear <= 80, "shear", "from 0 to 80", self.shear)
        require(0 <= self.fill <= 255, "fill", "from 0 to 255", self.fill)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        matrix = inverse(*self.drawn(len(batch), rng), batch.x.shape[-2:])
        return batch.replace(x=affine(batch.x, matrix, self.fill, self.resample == "bilinear"))

    def drawn(self, count: int, rng: Rng) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clockwise angles (count,), shifts (count, 2) in shares across and down, scales, shears (count,)."""
        u = rng.host_uniform(5, count)
        way = 2 * u - 1
        scale = self.scale_min + (self.scale_max - self.scale_min) * u[3]
        return self.degrees * way[0], self.translate * way[1:3].T, scale, self.shear * way[4]


def inverse(angle: Tensor, shift: Tensor, scale: Tensor, shear: Tensor, size: tuple[int, int]) -> Tensor:
    """From places in the result to those in the image, (n, 2, 3); the way there shears first, shifts last."""
    angle, shear = angle * (math.pi / 180), shear * (math.pi / 180)
    cos, sin, lean = angle.cos() / scale, angle.sin() / scale, shear.tan()
    turned_back = torch.stack((cos, sin, -sin, cos), 1).view(-1, 2, 2)
    zero, one = torch.zeros_like(lean), torch.ones_like(lean)
    linear = torch.stack((one, lean, zero, one), 1).view(-1, 2, 2) @ turned_back
    H, W = size
    centre = torch.tensor([W / 2, H / 2], dtype=linear.dtype)
    offset = centre - (linear * (centre + shift * 2 * centre)[:, None]).sum(2)
    return torch.cat((linear, offset[:, :, None]), 2)
