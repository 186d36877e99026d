"""Random erasing (Zhong et al. 2017, arXiv:1708.04896, algorithm 1): fill a random rectangle with noise."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor

from ..core.batch import Batch
from ..core.contracts import Fraction
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .erase import black, erased, noise, rectangle, within
from .mixing import below
from .pipeline import Augmentation

# A rectangle that does not fit is drawn again. A loop would have to look at the data, so 32 are drawn at once
# and the first that fits is used. An image stays as it is if all miss: one in 10^40 with the defaults.
ATTEMPTS = 32

Area = Annotated[float, Interval(gt=0, lt=1)]


@augmentations.register(
    "random_erasing",
    stage=Stage.ERASE,
    aliases=("random_erase",),
    paper="Zhong et al. 2017, arXiv:1708.04896",
    compat={"pprp-2021": {"fill": "black", "inverted": True}},
)
@dataclass(frozen=True)
class RandomErasing(Augmentation):
    prob: Fraction = 0.5  # of erasing a part of an image
    area_min: Area = 0.02  # smallest erased fraction of the image (s_l)
    area_max: Area = 0.4  # largest erased fraction of the image (s_h)
    ratio_min: Fraction = 0.3  # smallest height over width (r_1); the largest is its inverse
    fill: Literal["pixel", "channel", "constant", "black"] = "pixel"  # one random value for each, or black
    inverted: bool = False  # erase with probability 1 - prob, as an older project does

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        x = batch.x
        B, _, H, W = x.shape
        u = rng.uniform(2, B, ATTEMPTS, like=x)
        area = H * W * torch.lerp(u.new_tensor(self.area_min), u.new_tensor(self.area_max), u[0])
        ratio = self.ratio_min + (1 / self.ratio_min - self.ratio_min) * u[1]
        height, width = ((area * r).sqrt().round().clamp(min=1) for r in (ratio, 1 / ratio))
        # As in the authors' code, the size is drawn until it fits, then the place among those that hold it.
        # Drawing both together would prefer small rectangles.
        fits = (height < H) & (width < W)
        first = fits.to(torch.uint8).argmax(1, keepdim=True)  # (B, 1); 0 where none fits
        height, width = height.gather(1, first)[:, 0], width.gather(1, first)[:, 0]
        u = rng.fold("place").uniform(2, B, like=x)
        rows = within(below(H - height + 1, u[0]), height, H)
        columns = within(below(W - width + 1, u[1]), width, W)
        drawn = rng.fold("prob").uniform(B, like=x) < (1 - self.prob if self.inverted else self.prob)
        rows = rows & (fits.any(1) & drawn)[:, None]
        return batch.replace(x=erased(x, rectangle(rows, columns, like=x), self._fill(batch, rng)))

    def _fill(self, batch: Batch, rng: Rng) -> Tensor:
        B, C, H, W = batch.x.shape
        if self.fill == "black":
            return black(batch)
        # The paper fills with pixel values drawn from 0 to 255: anything from black to white.
        shape = {"pixel": (B, C, H, W), "channel": (B, C, 1, 1), "constant": (B, 1, 1, 1)}[self.fill]
        return noise(batch, rng, *shape)
