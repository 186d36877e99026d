"""Label smoothing (Szegedy et al. 2015, arXiv:1512.00567, section 7): every class gets a bit."""

from dataclasses import dataclass

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation


@augmentations.register(
    "label_smoothing", stage=Stage.LABEL, aliases=("lsr",), paper="Szegedy et al. 2015, arXiv:1512.00567"
)
@dataclass(frozen=True)
class LabelSmoothing(Augmentation):
    epsilon: float = 0.1  # the part of the target that is spread evenly over all K classes

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.epsilon <= 1, "epsilon", "between 0 and 1", self.epsilon)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        K = batch.y.shape[1]
        return batch.replace(y=batch.y * (1 - self.epsilon) + self.epsilon / K)
