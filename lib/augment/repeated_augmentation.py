"""Repeated augmentation (Hoffer et al. 2019, arXiv:1901.09335; Berman et al. 2019, arXiv:1902.05509).

A batch holds fewer images, each several times and augmented anew each time. As with DeiT (Touvron et al.
2020, arXiv:2012.12877) neither the batch nor the epoch gets larger, so an epoch sees a part of the images.
"""

from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation


@augmentations.register(
    "repeated_augmentation",
    stage=Stage.REPEAT,
    aliases=("repeated_aug",),
    paper="Hoffer et al. 2019, arXiv:1901.09335",
)
@dataclass(frozen=True)
class RepeatedAugmentation(Augmentation):
    times: int = 3  # that an image is in its batch; some are in it once less where that does not divide it

    def __post_init__(self):
        super().__post_init__()
        require(self.times >= 1, "times", "at least 1", self.times)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        # Copies are samples like all others, not views that a loss compares: they need not stay together, and
        # lie far apart, so that a micro-batch holds as many images as it can.
        images = len(batch) // batch.views
        image = torch.arange(images, device=batch.x.device) % -(-images // self.times)
        view = torch.arange(batch.views, device=batch.x.device)
        return batch.take((image[:, None] * batch.views + view).flatten())
