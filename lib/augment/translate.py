"""Random translation of the fast recipes (airbench: Jordan 2024, arXiv:2404.00498): `crop` by its other name.

A shift by up to n pixels each way is a crop of the image padded by n pixels; here are that name and its
defaults.
"""

from dataclasses import dataclass
from typing import Literal

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .crop import Crop
from .pipeline import Augmentation


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
