"""The teachers of a distillation, which add their logits to the finished batch once per step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..augment.pipeline import Augmentation, Normalize
from ..core.batch import Batch
from ..core.precision import Precision, autocast
from ..core.rng import Rng


@dataclass(frozen=True, kw_only=True)
class Teach(Augmentation):
    """Adds the mean of the networks' logits on the pixels that the student sees.

    Its softmax at any temperature is the geometric mean of the networks' distributions (Hinton et al. 2015
    name this mean and the arithmetic one), so one tensor serves every temperature.
    """

    models: Sequence[nn.Module]  # in eval mode
    precision: Precision

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        with torch.inference_mode(), autocast(batch.x.device, self.precision):
            logits = sum(model(batch.x).float() for model in self.models) / len(self.models)
        # The copy, made outside of inference mode, is an ordinary tensor, which autograd may save.
        return batch.replace(teacher=logits.clone())


class Renormalized(nn.Module):
    """A network that was trained on images normalized as `there`, for images normalized as `here`."""

    def __init__(self, model: nn.Module, here: Normalize, there: Normalize):
        super().__init__()
        self.model = model
        self.register_buffer("scale", here.std / there.std)
        self.register_buffer("shift", (here.mean - there.mean) / there.std)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        return self.model(x * self.scale + self.shift)
