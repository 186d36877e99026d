"""Random crop-paste: paste a box of another image at a different place.

CutMix (Yun et al. 2019, arXiv:1905.04899) pastes a box at the place where it was cut, and the border clips
it. Here the two places are drawn independently, and the box lies inside the image at both. So objects move,
and the box has the drawn area up to whole pixels.
"""

from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.contracts import Positive
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .mixing import area, box, draws, fetch, source
from .pipeline import Mix


@augmentations.register("random_crop_paste", stage=Stage.MIX, aliases=("crop_paste",))
@dataclass(frozen=True)
class RandomCropPaste(Mix):
    alpha: Positive = 1.0  # Beta(alpha, alpha) draws the kept area, as in CutMix

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        H, W = batch.x.shape[-2:]
        draw = draws(self.per_sample, batch, rng)
        side = (1 - draw.beta(self.alpha)).sqrt()
        height, width = (side * H).round(), (side * W).round()
        y1, x1 = draw.integers(H - height + 1), draw.integers(W - width + 1)
        dy, dx = y1 - draw.integers(H - height + 1), x1 - draw.integers(W - width + 1)
        mask = box(x1, y1, x1 + width, y1 + height, like=batch.x)
        other, own = batch.partners(rng), torch.arange(len(batch), device=batch.x.device)
        pasted, kept = source(batch.x, other, dx, dy), source(batch.x, own, 0, 0)
        x = fetch(batch.x, torch.where(mask, pasted, kept))
        return batch.replace(x=x, y=torch.lerp(batch.y, batch.y[other], area(mask, like=batch.y)))
