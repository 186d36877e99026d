"""Repeated augmentation (Hoffer et al. 2019, arXiv:1901.09335; Berman et al. 2019, arXiv:1902.05509).

A batch holds fewer images, each several times with different augmentations. As in DeiT (Touvron et al. 2020,
arXiv:2012.12877) the batch and the epoch keep their length, so an epoch sees only a part of the images.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge

from ..core.batch import Batch
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
    times: Annotated[int, Ge(2)] = 3  # copies of an image; some have one less if the batch does not divide

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        # Copies are samples like all others, not views that a loss compares. They lie far apart, so that a
        # micro-batch holds as many different images as possible.
        images = len(batch) // batch.views
        image = torch.arange(images, device=batch.x.device) % -(-images // self.times)
        view = torch.arange(batch.views, device=batch.x.device)
        return batch.take((image[:, None] * batch.views + view).flatten())
