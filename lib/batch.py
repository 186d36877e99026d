"""A batch of images with their targets, and what the tricks need to know of it."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from dataclasses import replace as dataclass_replace

import torch
from torch import Tensor

from lib.rng import Rng


@dataclass(frozen=True)
class Batch:
    """Images, their targets, and where they come from. Tricks give back a new one, and write into none."""

    x: Tensor  # (B, C, H, W), uint8 until the NORMALIZE stage and float after it
    y: Tensor  # (B, K) probabilities, always
    index: Tensor  # (B,) places in the data set
    epoch: int = 0
    teacher: Tensor | None = None  # (B, K) logits of a teacher, where one is asked

    def __len__(self) -> int:
        return len(self.x)

    def replace(self, **changes) -> "Batch":
        return dataclass_replace(self, **changes)

    def take(self, index: Tensor | slice) -> "Batch":
        """The samples at `index`, in every field that is one value a sample."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return self.replace(**{k: v[index] for k, v in values.items() if isinstance(v, Tensor)})

    def shuffled(self, rng: Rng) -> "Batch":
        """The same samples in another order: the partners of a mix."""
        noise = rng.fold("partners").uniform(len(self), like=self.x)
        return self.take(torch.argsort(noise))

    def split(self, parts: int) -> Iterator["Batch"]:
        """At most `parts` micro-batches of (nearly) equal size, in order."""
        size = -(-len(self) // parts)
        return (self.take(slice(start, start + size)) for start in range(0, len(self), size))
