"""A batch of images and targets, with the context that tricks need."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from dataclasses import replace as dataclass_replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .rng import Rng


@dataclass(frozen=True)
class PixelScale:
    """The values of black and white pixels after NORMALIZE, to fill erased parts with."""

    black: Tensor  # (C, 1, 1)
    white: Tensor  # (C, 1, 1)


@dataclass(frozen=True)
class Batch:
    """Images and targets. Tricks return a new batch and never write into one."""

    x: Tensor  # (B, C, H, W), uint8 until the NORMALIZE stage and float after it
    y: Tensor  # (B, K) probabilities, always
    index: Tensor  # (B,) positions in the data set
    epoch: int = 0
    teacher: Tensor | None = None  # (B, K) logits of the teachers of a distillation
    views: int = 1  # consecutive samples that are views of one image, and stay together
    scale: PixelScale | None = None  # set by NORMALIZE

    @classmethod
    def of(cls, x: Tensor, y: Tensor, num_classes: int) -> "Batch":
        """A batch of plain tensors; y holds classes (B,) or probabilities (B, K)."""
        y = F.one_hot(y, num_classes).float() if y.ndim == 1 else y
        return cls(x, y, torch.arange(len(x), device=x.device))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def images(self) -> int:
        """The number of images, each of which has all its views in the batch."""
        return len(self) // self.views

    def samples(self, images: Tensor) -> Tensor:  # (N,) -> (N * views,)
        """The places of all views of these images."""
        return (images[:, None] * self.views + torch.arange(self.views, device=images.device)).flatten()

    def replace(self, **changes) -> "Batch":
        return dataclass_replace(self, **changes)

    def take(self, index: Tensor | slice) -> "Batch":
        """The samples at `index`, in every field that has one value per sample."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return self.replace(**{k: v[index] for k, v in values.items() if isinstance(v, Tensor)})

    def partners(self, rng: Rng) -> Tensor:
        """(B,) a random permutation of the samples, for mixing. Views of an image stay together."""
        noise = rng.fold("partners").uniform(self.images, like=self.x)
        return self.samples(torch.argsort(noise))

    def shuffled(self, rng: Rng) -> "Batch":
        """The samples in the order of `partners`."""
        return self.take(self.partners(rng))

    def repeated(self, views: int) -> "Batch":
        """Every sample repeated `views` times, as views of one image."""
        index = torch.arange(len(self), device=self.x.device).repeat_interleave(views)
        return self.take(index).replace(views=self.views * views)

    def shard(self, rank: int, size: int) -> "Batch":
        """Every `size`-th image starting at number `rank`, with all its views.

        Where sizes divide, the micro-batches of all processes together are then those of the whole batch.
        """
        return self.take(self.samples(torch.arange(rank, self.images, size, device=self.x.device)))

    def split(self, parts: int) -> Iterator["Batch"]:
        """At most `parts` micro-batches of nearly equal size, in order."""
        size = -(-len(self) // (parts * self.views)) * self.views
        return (self.take(slice(start, start + size)) for start in range(0, len(self), size))


Loss = Callable[[Tensor, Batch], Tensor]  # logits (B, K), batch -> losses (B,)


def accepts_targets(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a method `(logits, batch)` also take `(logits, y)`, for training loops without batches.

    y holds classes (B,) or probabilities (B, K); `known` are other fields of the batch, such as `teacher=`.
    """

    @functools.wraps(loss)
    def accepting(self, logits: Tensor, target: Batch | Tensor, **known) -> Tensor:  # (B, K) -> (B,)
        # A loss looks at no image, so the logits take the place of x.
        batch = target if isinstance(target, Batch) else Batch.of(logits, target, logits.shape[1])
        return loss(self, logits, batch.replace(**known) if known else batch)

    return accepting
