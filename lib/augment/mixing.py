"""What the mixes share: draws for a batch or for each sample, boxes, and a paste whose target is its area.

Draws are tensors (N, 1, 1), which meet a map of pixels (H, W): N is 1 where the batch has one draw, and B
where each sample has its own.
"""

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.rng import Rng


class PerBatch:
    """One draw for all samples: single numbers on the host, maps on the device."""

    def __init__(self, batch: Batch, rng: Rng):
        self.batch, self.rng = batch, rng

    def uniform(self) -> Tensor:
        return self._tensor(self.rng.host.random())

    def beta(self, alpha: float) -> Tensor:
        """Of Beta(alpha, alpha)."""
        return self._tensor(self.rng.host.betavariate(alpha, alpha))

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape) standard normal."""
        return self.rng.normal(1, *shape, like=self.batch.x)

    def _tensor(self, value: float) -> Tensor:
        return torch.full((1, 1, 1), value, device=self.batch.x.device)  # filled there: nothing is copied


class PerSample:
    """A draw for each sample; views of one image have the same, for their target is one."""

    def __init__(self, batch: Batch, rng: Rng):
        self.batch, self.rng = batch, rng
        self.images = len(batch) // batch.views

    def uniform(self) -> Tensor:
        return self._views(self.rng.uniform(self.images, 1, 1, like=self.batch.x))

    def beta(self, alpha: float) -> Tensor:
        """Of Beta(alpha, alpha)."""
        return self._views(self.rng.beta(alpha, self.images, 1, 1, like=self.batch.x))

    def normal(self, *shape: int) -> Tensor:
        """(N, *shape) standard normal."""
        return self._views(self.rng.normal(self.images, *shape, like=self.batch.x))

    def _views(self, drawn: Tensor) -> Tensor:
        return drawn.repeat_interleave(self.batch.views, 0)


def draws(per_sample: bool, batch: Batch, rng: Rng) -> PerBatch | PerSample:
    return (PerSample if per_sample else PerBatch)(batch, rng)


def below(n: int | Tensor, uniform: Tensor) -> Tensor:
    """Whole numbers from 0 to n - 1 made of uniform ones; n may differ from sample to sample."""
    return (uniform * n).floor().clamp(max=n - 1)  # a float just below 1 times n may be rounded to n


def box(top: Tensor, left: Tensor, height: Tensor, width: Tensor, like: Tensor) -> Tensor:
    """(N, H, W) which pixels of `like` (B, C, H, W) lie in a box; the border clips it."""
    H, W = like.shape[-2:]
    row = torch.arange(H, device=like.device)[:, None]
    column = torch.arange(W, device=like.device)
    return (top <= row) & (row < top + height) & (left <= column) & (column < left + width)


def share(mask: Tensor, like: Tensor) -> Tensor:
    """(N, 1) which part of its image a mask (N, H, W) covers."""
    return mask.to(like.dtype).mean((1, 2))[:, None]


def paste(batch: Batch, other: Batch, mask: Tensor) -> Batch:
    """The batch with the pixels of `other` where the mask (N, H, W) is set, and the target by its area."""
    x = torch.where(mask[:, None], other.x, batch.x)
    return batch.replace(x=x, y=torch.lerp(batch.y, other.y, share(mask, like=batch.y)))


def source(x: Tensor, image: Tensor, down: Tensor | float, across: Tensor | float) -> Tensor:
    """(B, H, W) the places of the pixels of the images `image` (B,), moved by whole pixels (N, 1, 1)."""
    C, H, W = x.shape[1:]
    # What lies outside of the image is replaced by its border; a mask hides it.
    row = (torch.arange(H, device=x.device)[:, None] - down).clamp(0, H - 1)
    column = (torch.arange(W, device=x.device) - across).clamp(0, W - 1)
    return image[:, None, None] * (C * H * W) + row.long() * W + column.long()


def fetch(x: Tensor, place: Tensor) -> Tensor:
    """The pixels of x (B, C, H, W) at the places (B, H, W) that `source` gives, in one gather."""
    C, H, W = x.shape[1:]
    channel = torch.arange(C, device=x.device)[:, None, None] * (H * W)
    return x.take(place[:, None] + channel)
