"""Random translation of the fast recipes (airbench: Jordan 2024, arXiv:2404.00498): `crop` by its other name.

A shift by up to n pixels each way is a crop of the image padded by n pixels; here are that name and its
defaults.
"""

from dataclasses import dataclass
from typing import Literal

from lib.augment.crop import Crop
from lib.augment.pipeline import Augmentation
from lib.augment.stage import Stage
from lib.batch import Batch
from lib.errors import require
from lib.registry import augmentations
from lib.rng import Rng


@augmentations.register(
    "translate", stage=Stage.GEOMETRY, aliases=("random_translate",), paper="Jordan 2024, arXiv:2404.00498"
)
@dataclass(frozen=True)
class Translate(Augmentation):
    pixels: int = 2  # the farthest shift along each side; all shifts are equally likely
    mode: Literal["zero", "reflect"] = "reflect"  # what comes in: black, or the mirrored border

    def __post_init__(self):
        super().__post_init__()
        require(self.pixels > 0, "pixels", "at least 1", self.pixels)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        side = min(batch.x.shape[-2:])
        fits = self.mode == "zero" or self.pixels < side
        require(fits, "pixels", f"below the image's side {side} to reflect", self.pixels)
        return Crop(padding=self.pixels, mode=self.mode)(batch, rng)
