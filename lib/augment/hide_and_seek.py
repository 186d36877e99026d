"""Hide-and-Seek (Singh & Lee 2017, arXiv:1704.04232; 1811.02545): hide the patches of a grid at random."""

from dataclasses import dataclass

from ..core.batch import Batch
from ..core.contracts import Count, Inside
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .erase import erased
from .pipeline import Augmentation


@augmentations.register(
    "hide_and_seek",
    stage=Stage.ERASE,
    paper="Singh & Lee 2017, arXiv:1704.04232; Singh et al. 2018, arXiv:1811.02545",
)
@dataclass(frozen=True)
class HideAndSeek(Augmentation):
    patch: Count = 8  # side of a patch in pixels (S)
    prob: Inside = 0.5  # of hiding a patch (p_hide)

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        x, S = batch.x, self.patch
        B, _, H, W = x.shape
        hidden = rng.uniform(B, 1, -(-H // S), -(-W // S), like=x) < self.prob
        hidden = hidden.to(x.dtype).repeat_interleave(S, 2).repeat_interleave(S, 3)[..., :H, :W]
        # The mean colour keeps the mean of the activations as it is at test time, where nothing is hidden.
        return batch.replace(x=erased(x, hidden))
