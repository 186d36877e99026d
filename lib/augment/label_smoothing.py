"""Label smoothing (Szegedy et al. 2015, arXiv:1512.00567, section 7): a small probability for every class."""

from dataclasses import dataclass

from ..core.batch import Batch
from ..core.contracts import Inside
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation


@augmentations.register(
    "label_smoothing", stage=Stage.LABEL, aliases=("lsr",), paper="Szegedy et al. 2015, arXiv:1512.00567"
)
@dataclass(frozen=True)
class LabelSmoothing(Augmentation):
    epsilon: Inside = 0.1  # spread evenly over all K classes

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        K = batch.y.shape[1]
        return batch.replace(y=batch.y * (1 - self.epsilon) + self.epsilon / K)
