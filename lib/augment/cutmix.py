"""CutMix (Yun et al. 2019, arXiv:1905.04899, section 3.1): paste a box from another image."""

from dataclasses import dataclass

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .mixing import below, box, draws, paste
from .pipeline import Mix


@augmentations.register("cutmix", stage=Stage.MIX, paper="Yun et al. 2019, arXiv:1905.04899")
@dataclass(frozen=True)
class CutMix(Mix):
    alpha: float = 1.0  # Beta(alpha, alpha) draws the kept area; 1.0 in the paper

    def __post_init__(self):
        super().__post_init__()
        require(self.alpha > 0, "alpha", "above 0", self.alpha)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        H, W = batch.x.shape[-2:]
        draw = draws(self.per_sample, batch, rng)
        side = (1 - draw.beta(self.alpha)).sqrt()
        up, back = (side * H / 2).floor(), (side * W / 2).floor()
        row, column = below(H, draw.uniform()), below(W, draw.uniform())
        # The border clips the box, so the label weight is its true area, not the drawn one.
        mask = box(row - up, column - back, 2 * up, 2 * back, like=batch.x)
        return paste(batch, batch.shuffled(rng), mask)
