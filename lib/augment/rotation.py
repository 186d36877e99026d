"""Random rotation: turn each image around its centre by an angle of its own."""

from dataclasses import dataclass
from typing import Literal

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .image_ops import rotate
from .pipeline import Augmentation


@augmentations.register("rotation", stage=Stage.GEOMETRY, aliases=("random_rotation",))
@dataclass(frozen=True)
class Rotation(Augmentation):
    degrees: float = 15.0  # the largest angle, either way; all angles are equally likely
    resample: Literal["nearest", "bilinear"] = "nearest"  # take the nearest pixel, or mix the four around
    fill: int = 0  # what comes in from outside: from 0 for black to 255 for white

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.degrees <= 180, "degrees", "from 0 to 180", self.degrees)
        require(0 <= self.fill <= 255, "fill", "from 0 to 255", self.fill)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        degrees = self.degrees * (2 * rng.host_uniform(len(batch)) - 1)
        return batch.replace(x=rotate(batch.x, degrees, self.fill, self.resample == "bilinear"))
