"""Colour jitter (Howard 2013, arXiv:1312.5402): four enhancements of each image, in an order of its own.

The ranges are those that SimCLR (Chen et al. 2020, arXiv:2002.05709, appendix A) has at strength 0.5, its
choice for CIFAR-10. SimCLR jitters four images in five, this every one.
"""

from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.errors import require
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
    brightness: float = 0.4  # b draws a factor from 1 - b (not below 0) to 1 + b; 0 is black
    contrast: float = 0.4  # likewise; 0 is the image's mean grey
    saturation: float = 0.4  # likewise; 0 is the image in grey
    hue: float = 0.1  # the farthest turn of the wheel of colours, either way; 0.5 is half of it

    def __post_init__(self):
        super().__post_init__()
        for name in ("brightness", "contrast", "saturation"):
            require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        require(0 <= self.hue <= 0.5, "hue", "from 0 to 0.5", self.hue)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        return batch.replace(x=self.drawn(len(batch), rng).apply(batch.x, 0))

    def drawn(self, count: int, rng: Rng) -> Drawn:
        """For each image the four enhancements in any order, all 24 equally likely."""
        reach = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue]).double()
        middle = torch.tensor([1.0, 1.0, 1.0, 0.0]).double()
        low = torch.maximum(middle - reach, torch.tensor([0, 0, 0, -0.5]).double())
        magnitude = low + (middle + reach - low) * rng.host_uniform(count, 4)
        order = rng.host_uniform(count, 4).argsort(1)
        numbers = torch.tensor([NUMBER[name] for name in ("brightness", "contrast", "color", "hue")])
        return Drawn(numbers[order], magnitude.gather(1, order))
