"""Colour jitter (Howard 2013, arXiv:1312.5402): four enhancements of each image in a random order.

The ranges are those of SimCLR (Chen et al. 2020, arXiv:2002.05709, appendix A) at strength 0.5, its choice
for CIFAR-10. SimCLR jitters four images in five, this every one.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval

from ..core.batch import Batch
from ..core.contracts import NonNegative
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation
from .policy import NUMBER, Drawn


@augmentations.register(
    "color_jitter",
    stage=Stage.COLOR,
    aliases=("colour_jitter", "colorjitter"),
    paper="Howard 2013, arXiv:1312.5402",
)
@dataclass(frozen=True)
class ColorJitter(Augmentation):
    brightness: NonNegative = 0.4  # b: the factor is drawn from max(0, 1 - b) to 1 + b; 0 is black
    contrast: NonNegative = 0.4  # likewise; 0 is the image's mean grey
    saturation: NonNegative = 0.4  # likewise; 0 is the image in grey
    hue: Annotated[float, Interval(ge=0, le=0.5)] = 0.1  # largest rotation of the colour wheel, in turns

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        return batch.replace(x=self.drawn(len(batch), rng).apply(batch.x, 0))

    def drawn(self, count: int, rng: Rng) -> Drawn:
        """The four enhancements of each image in any order, all 24 equally likely."""
        reach = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue]).double()
        middle = torch.tensor([1.0, 1.0, 1.0, 0.0]).double()
        low = torch.maximum(middle - reach, torch.tensor([0, 0, 0, -0.5]).double())
        magnitude = low + (middle + reach - low) * rng.host_uniform(count, 4)
        order = rng.host_uniform(count, 4).argsort(1)
        numbers = torch.tensor([NUMBER[name] for name in ("brightness", "contrast", "color", "hue")])
        return Drawn(numbers[order], magnitude.gather(1, order))
