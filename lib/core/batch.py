"""A batch of images with their targets, and what the tricks need to know of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from dataclasses import replace as dataclass_replace

import torch
from torch import Tensor

from .rng import Rng


@dataclass(frozen=True)
class PixelScale:
    """What the ends of the pixels' range have become: what fills an erased part, after NORMALIZE."""

    black: Tensor  # (C, 1, 1)
    white: Tensor  # (C, 1, 1)


@dataclass(frozen=True)
class Batch:
    """Images, their targets, and where they come from. Tricks give back a new one, and write into none."""

    x: Tensor  # (B, C, H, W), uint8 until the NORMALIZE stage and float after it
    y: Tensor  # (B, K) probabilities, always
    index: Tensor  # (B,) places in the data set
    epoch: int = 0
    teacher: Tensor | None = None  # (B, K) logits of a teacher, where one is asked
    views: int = 1  # so many samples in a row are views of one image, and stay together
    scale: PixelScale | None = None  # set by NORMALIZE

    def __len__(self) -> int:
        return len(self.x)

    def replace(self, **changes) -> "Batch":
        return dataclass_replace(self, **changes)

    def take(self, index: Tensor | slice) -> "Batch":
        """The samples at `index`, in every field that is one value a sample."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return self.replace(**{k: v[index] for k, v in values.items() if isinstance(v, Tensor)})

    def partners(self, rng: Rng) -> Tensor:
        """(B,) the samples in another order, for a mix. Views of one image get views of one."""
        noise = rng.fold("partners").uniform(len(self) // self.views, like=self.x)
        view = torch.arange(self.views, device=self.x.device)
        return (torch.argsort(noise)[:, None] * self.views + view).flatten()

    def shuffled(self, rng: Rng) -> "Batch":
        """The same samples in the order of the partners."""
        return self.take(self.partners(rng))

    def repeated(self, views: int) -> "Batch":
        """Every sample `views` times in a row, as views of one image."""
        index = torch.arange(len(self), device=self.x.device).repeat_interleave(views)
        return self.take(index).replace(views=self.views * views)

    def share(self, rank: int, size: int) -> "Batch":
        """Every `size`-th image from number `rank` on, with all its views.

        So the micro-batches of all shares together are those of the whole batch, where sizes divide.
        """
        image = torch.arange(rank, len(self) // self.views, size, device=self.x.device)
        view = torch.arange(self.views, device=self.x.device)
        return self.take((image[:, None] * self.views + view).flatten())

    def split(self, parts: int) -> Iterator["Batch"]:
        """At most `parts` micro-batches of (nearly) equal size, in order."""
        size = -(-len(self) // (parts * self.views)) * self.views
        return (self.take(slice(start, start + size)) for start in range(0, len(self), size))


Loss = Callable[[Tensor, Batch], Tensor]  # logits (B, K) and their batch to (B,)
