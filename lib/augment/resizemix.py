"""ResizeMix (Qin et al. 2020, arXiv:2012.11101): paste another image, whole but smaller."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.contracts import Fraction
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .mixing import box, draws, paste
from .pipeline import Mix


@augmentations.register("resizemix", stage=Stage.MIX, paper="Qin et al. 2020, arXiv:2012.11101")
@dataclass(frozen=True)
class ResizeMix(Mix):
    scale_min: Fraction = 0.1  # smallest side of the pasted image, relative to its own (alpha)
    scale_max: Fraction = 0.8  # largest side of the pasted image, likewise (beta)

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        H, W = batch.x.shape[-2:]
        draw = draws(self.per_sample, batch, rng)
        scale = self.scale_min + (self.scale_max - self.scale_min) * draw.uniform()  # tau in the paper
        height, width = ((scale * size).round().clamp(min=1) for size in (H, W))
        y1, x1 = draw.integers(H - height + 1), draw.integers(W - width + 1)
        other = batch.shuffled(rng)
        # One matrix product per direction, so samples may differ in size.
        rows = _shrink(y1, height, H)[:, None]  # (N, 1, H, H)
        columns = _shrink(x1, width, W)[:, None]
        small = rows.to(batch.x.dtype) @ other.x @ columns.to(batch.x.dtype).mT
        return paste(batch, other.replace(x=small), box(x1, y1, x1 + width, y1 + height, like=batch.x))


def _shrink(first: Tensor, length: Tensor, size: int) -> Tensor:
    """(N, size, size) weights that shrink all pixels to the `length` (N, 1, 1) from `first` (N, 1, 1) on.

    A new pixel is the mean of the old ones under a triangle: bilinear resizing with antialiasing.
    """
    ratio = size / length
    place = torch.arange(size, device=first.device) + 0.5
    centre = (place[:, None] - first) * ratio
    weight = (1 - (place - centre).abs() / ratio).clamp(min=0)
    return weight / weight.sum(2, keepdim=True).clamp(min=1e-6)  # outside of the box there may be none
