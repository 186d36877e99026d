"""ResizeMix (Qin et al. 2020, arXiv:2012.11101, section 3): paste another image, whole but smaller."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .mixing import below, box, draws, paste
from .pipeline import Mix


@augmentations.register("resizemix", stage=Stage.MIX, paper="Qin et al. 2020, arXiv:2012.11101")
@dataclass(frozen=True)
class ResizeMix(Mix):
    scale_min: float = 0.1  # smallest side of the pasted image, as a share of its own (alpha)
    scale_max: float = 0.8  # largest side of the pasted image (beta)

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.scale_min <= 1, "scale_min", "above 0 and at most 1", self.scale_min)
        rule = f"from scale_min {self.scale_min} to 1"
        require(self.scale_min <= self.scale_max <= 1, "scale_max", rule, self.scale_max)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        H, W = batch.x.shape[-2:]
        draw = draws(self.per_sample, batch, rng)
        scale = self.scale_min + (self.scale_max - self.scale_min) * draw.uniform()  # tau in the paper
        height, width = ((scale * size).round().clamp(min=1) for size in (H, W))
        top, left = below(H - height + 1, draw.uniform()), below(W - width + 1, draw.uniform())
        other = batch.shuffled(rng)
        # Both directions are one matrix product each, so every sample may have a size of its own.
        rows = _shrink(top, height, H)[:, None]  # (N, 1, H, H)
        columns = _shrink(left, width, W)[:, None]
        small = rows.to(batch.x.dtype) @ other.x @ columns.to(batch.x.dtype).mT
        return paste(batch, other.replace(x=small), box(top, left, height, width, like=batch.x))


def _shrink(first: Tensor, length: Tensor, size: int) -> Tensor:
    """(N, size, size) weights that shrink all pixels to the `length` (N, 1, 1) from `first` (N, 1, 1) on.

    A pixel is the mean of what it covers under a triangle: bilinear resizing without aliasing.
    """
    ratio = size / length
    place = torch.arange(size, device=first.device) + 0.5
    centre = (place[:, None] - first) * ratio
    weight = (1 - (place - centre).abs() / ratio).clamp(min=0)
    return weight / weight.sum(2, keepdim=True).clamp(min=1e-6)  # outside of the box there may be none
