"""Random crop-paste: a box of another image is pasted at a place of its own.

CutMix (Yun et al. 2019, arXiv:1905.04899) takes a box from where it puts it, and the border clips it. Here
both places are drawn apart, and the box lies inside the image at both: objects leave their places, and the
box's area is the drawn one up to whole pixels.
"""

from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .mixing import below, box, draws, fetch, share, source
from .pipeline import Mix


@augmentations.register("random_crop_paste", stage=Stage.MIX, aliases=("crop_paste",))
@dataclass(frozen=True)
class RandomCropPaste(Mix):
    alpha: float = 1.0  # Beta(alpha, alpha) draws the kept area, as in CutMix

    def __post_init__(self):
        super().__post_init__()
        require(self.alpha > 0, "alpha", "above 0", self.alpha)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        H, W = batch.x.shape[-2:]
        draw = draws(self.per_sample, batch, rng)
        side = (1 - draw.beta(self.alpha)).sqrt()
        height, width = (side * H).round(), (side * W).round()
        top, left = below(H - height + 1, draw.uniform()), below(W - width + 1, draw.uniform())
        down = top - below(H - height + 1, draw.uniform())
        across = left - below(W - width + 1, draw.uniform())
        mask = box(top, left, height, width, like=batch.x)
        other, own = batch.partners(rng), torch.arange(len(batch), device=batch.x.device)
        pasted, kept = source(batch.x, other, down, across), source(batch.x, own, 0, 0)
        x = fetch(batch.x, torch.where(mask, pasted, kept))
        return batch.replace(x=x, y=torch.lerp(batch.y, batch.y[other], share(mask, like=batch.y)))
