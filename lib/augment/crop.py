"""Padded random crop (He et al. 2015, arXiv:1512.03385, section 4.2): move the image by a few pixels."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from lib.augment.pipeline import Augmentation
from lib.augment.stage import Stage
from lib.batch import Batch
from lib.errors import require
from lib.registry import augmentations
from lib.rng import Rng


@augmentations.register(
    "crop", stage=Stage.GEOMETRY, aliases=("random_crop",), paper="He et al. 2015, arXiv:1512.03385"
)
@dataclass(frozen=True)
class Crop(Augmentation):
    padding: int = 4  # pixels added on every side before the crop
    mode: Literal["zero", "reflect"] = "zero"  # what they hold: black, or the mirrored border

    def __post_init__(self):
        super().__post_init__()
        require(self.padding > 0, "padding", "at least 1", self.padding)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        x, p = batch.x, self.padding
        B, _, H, W = x.shape
        require(
            self.mode == "zero" or p < min(H, W),
            "padding",
            f"below the image's side {min(H, W)} to reflect",
            p,
        )
        padded = F.pad(x, (p, p, p, p), mode="constant" if self.mode == "zero" else "reflect")
        top, left = rng.integers(0, 2 * p + 1, 2, B, like=x)
        # All crops as a view (B, C, 2p+1, 2p+1, H, W), so choosing one for each image is a single gather.
        crops = padded.unfold(2, H, 1).unfold(3, W, 1)
        return batch.replace(x=crops[torch.arange(B, device=x.device), :, top, left])
