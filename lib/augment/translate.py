"""Random translation, as in airbench (Jordan 2024, arXiv:2404.00498): shift an image by a few pixels.

`crop` makes the same shifts, under the name and with the defaults of the ResNet paper.
"""

from dataclasses import dataclass

from ..core.batch import Batch
from ..core.contracts import Count
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .crop import Border, shifted
from .pipeline import Augmentation


@augmentations.register(
    "translate", stage=Stage.GEOMETRY, aliases=("random_translate",), paper="Jordan 2024, arXiv:2404.00498"
)
@dataclass(frozen=True)
class Translate(Augmentation):
    pixels: Count = 2  # largest shift along each axis; all shifts are equally likely
    mode: Border = "reflect"  # pixels that move in: black, or the mirrored border

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        return batch.replace(x=shifted(batch.x, self.pixels, self.mode, rng))
