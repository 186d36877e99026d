"""CutMix (Yun et al. 2019, arXiv:1905.04899, section 3.1): paste a box from another image."""

from dataclasses import dataclass

from ..core.batch import Batch
from ..core.contracts import Positive
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .mixing import box, draws, paste
from .pipeline import Mix


@augmentations.register("cutmix", stage=Stage.MIX, paper="Yun et al. 2019, arXiv:1905.04899")
@dataclass(frozen=True)
class CutMix(Mix):
    alpha: Positive = 1.0  # Beta(alpha, alpha) draws the kept area; 1.0 in the paper

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        H, W = batch.x.shape[-2:]
        draw = draws(self.per_sample, batch, rng)
        side = (1 - draw.beta(self.alpha)).sqrt()
        half_h, half_w = (side * H / 2).floor(), (side * W / 2).floor()
        cy, cx = draw.integers(H), draw.integers(W)
        # The border clips the box, so the label weight is its true area, not the drawn one.
        mask = box(cx - half_w, cy - half_h, cx + half_w, cy + half_h, like=batch.x)
        return paste(batch, batch.shuffled(rng), mask)
