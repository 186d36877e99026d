"""Random rotation of each image around its centre."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval

from ..core.batch import Batch
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .image_ops import rotate
from .pipeline import Augmentation
from .resample import Byte


@augmentations.register("rotation", stage=Stage.GEOMETRY, aliases=("random_rotation",))
@dataclass(frozen=True)
class Rotation(Augmentation):
    degrees: Annotated[float, Interval(ge=0, le=180)] = 15.0  # largest angle, in both directions
    resample: Literal["nearest", "bilinear"] = "nearest"  # nearest pixel, or a mean of the four around
    fill: Byte = 0  # value of pixels from outside the image; 255 is white

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        degrees = self.degrees * (2 * rng.host_uniform(len(batch)) - 1)
        return batch.replace(x=rotate(batch.x, degrees, self.fill, self.resample))
