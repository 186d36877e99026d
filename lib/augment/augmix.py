"""AugMix (Hendrycks et al. 2019, arXiv:1912.02781, algorithm 1): a mean of an image and its augmentations.

Dirichlet weights average `width` chains of operations, and Beta weights average the result with the image.
The operations are those of AutoAugment that resemble no corruption of ImageNet-C: without contrast, colour,
brightness, sharpness and cutout. Their ranges, their rounding to integers and the black fill are those of the
authors' code for CIFAR.

With `jsd` a batch holds each image clean and augmented twice. The loss is then the cross-entropy of the clean
view plus 12 times the Jensen-Shannon divergence of the three predictions (section 3).
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

from ..core.batch import Batch, Loss
from ..core.contracts import Count, NonNegative, Positive
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation
from .policy import NUMBER, Drawn

DEEPEST = 3  # largest depth if it is drawn
WEAKEST = 0.1  # smallest severity that is drawn
FULL = 10  # severity at the end of the ranges
VIEWS = 3  # of an image: clean, and augmented twice

# Magnitudes at severity 0 and FULL; whether they are truncated to integers; whether their sign is drawn.
# Posterizing keeps four bits at most, in the authors' code too. A shift is a fraction of the side.
OPERATIONS = {
    "autocontrast": (0, 0, False, False),
    "equalize": (0, 0, False, False),
    "posterize": (4, 0, True, False),
    "bilinear_rotate": (0, 30, True, True),
    "solarize": (256, 0, True, False),
    "bilinear_shear_x": (0, 0.3, False, True),
    "bilinear_shear_y": (0, 0.3, False, True),
    "translate_x_pixels": (0, 1 / 3, True, True),
    "translate_y_pixels": (0, 1 / 3, True, True),
}


@augmentations.register("augmix", stage=Stage.COLOR, paper="Hendrycks et al. 2019, arXiv:1912.02781")
@dataclass(frozen=True)
class AugMix(Augmentation):
    width: Count = 3  # chains that are mixed (k)
    depth: int = -1  # operations in a chain; -1 draws 1 to 3 for each
    alpha: Positive = 1.0  # of the Dirichlet and Beta distributions of the weights
    severity: Annotated[float, Interval(ge=WEAKEST, le=FULL)] = 3.0  # largest strength of an operation
    jsd: bool = False  # add two augmented views of each image, and the consistency loss
    consistency: NonNegative = 12.0  # weight of the Jensen-Shannon divergence of the three predictions

    def __post_init__(self):
        super().__post_init__()
        require(self.depth == -1 or self.depth > 0, "depth", "at least 1, or -1", self.depth)
        require(self.jsd or self.consistency == 12, "consistency", "left at 12 without jsd", self.consistency)

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        if not self.jsd:
            return batch.replace(x=self.mixed(batch.x, rng))
        augmented = self.mixed(batch.x.repeat_interleave(VIEWS - 1, 0), rng)
        x = torch.cat((batch.x[:, None], augmented.unflatten(0, (-1, VIEWS - 1))), 1)
        return batch.repeated(VIEWS).replace(x=x.flatten(0, 1))

    def mixed(self, x: Tensor, rng: Rng) -> Tensor:
        """The images, each mixed with its own chains."""
        drawn, weights = self.drawn(len(x), x.shape[-2:], rng)
        weights = weights.to(x.device, torch.float32, non_blocking=True)[:, :, None, None, None]
        chains = drawn.apply(x.repeat_interleave(self.width, 0), 0).unflatten(0, (-1, self.width))
        mixed = x * weights[:, 0]
        for k in range(self.width):
            mixed += chains[:, k] * weights[:, k + 1]
        return mixed.add_(0.5).clamp_(0, 255).to(torch.uint8)

    def drawn(self, count: int, size: tuple[int, int], rng: Rng) -> tuple[Drawn, Tensor]:
        """(count * width, deepest) operations of chains; (count, 1 + width) weights of images and chains."""
        chains, deepest = count * self.width, DEEPEST if self.depth == -1 else self.depth
        depth = rng.host_integers(1, deepest + 1, chains, 1) if self.depth == -1 else deepest
        number = rng.host_integers(0, len(OPERATIONS), chains, deepest)
        severity = WEAKEST + (self.severity - WEAKEST) * rng.host_uniform(chains, deepest)
        coin = rng.host_integers(0, 2, chains, deepest) == 1
        magnitude = _magnitudes(number, severity / FULL, coin, size)
        operation = torch.tensor([NUMBER[name] for name in OPERATIONS])[number]
        operation = torch.where(torch.arange(deepest) < depth, operation, NUMBER["identity"])
        of_chains = rng.host_dirichlet(self.alpha, self.width, count)
        own = rng.host_dirichlet(self.alpha, 2, count)[:, :1]
        return Drawn(operation, magnitude), torch.cat((own, (1 - own) * of_chains), 1)

    def loss(self, base: Loss) -> Loss:
        def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
            if not self.jsd or batch.views == 1 or not self.is_active(batch.epoch):
                return base(logits, batch)
            # A later augmentation may have made views of the views: they are the last dimension.
            logits_of = logits.float().unflatten(0, (-1, VIEWS, batch.views // VIEWS))
            clean = torch.arange(len(logits), device=logits.device).view(logits_of.shape[:3])[:, 0].flatten()
            loss = base(logits_of[:, 0].flatten(0, 1), batch.take(clean).replace(views=batch.views // VIEWS))
            loss = loss + self.consistency * jensen_shannon(logits_of).flatten()
            # The step takes the mean over all views, so each gets the loss of its image.
            return loss.view(len(logits_of), 1, -1).expand(logits_of.shape[:3]).flatten()

        return loss


def jensen_shannon(logits: Tensor) -> Tensor:
    """(n, ...) mean divergence of the predictions (n, views, ..., K) from their mean."""
    log_p = logits.log_softmax(-1)
    log_mean = log_p.logsumexp(1, keepdim=True) - math.log(logits.shape[1])
    return (log_p.exp() * (log_p - log_mean)).sum(-1).mean(1)


def _magnitudes(number: Tensor, strength: Tensor, coin: Tensor, size: tuple[int, int]) -> Tensor:
    """The magnitudes of drawn `OPERATIONS` at strengths from 0 to 1."""
    H, W = size
    side = {"translate_x_pixels": W, "translate_y_pixels": H}
    ranges = OPERATIONS.items()
    rows = [(low, (high - low) * side.get(name, 1), *flags) for name, (low, high, *flags) in ranges]
    none, reach, whole, signed = torch.tensor(rows, dtype=torch.float64)[number].unbind(-1)
    reach = reach * strength
    reach = torch.where(whole > 0, reach.trunc(), reach)
    return none + torch.where((signed > 0) & ~coin, -reach, reach)
