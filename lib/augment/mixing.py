"""Parts of the mixes: draws for a batch or for each sample, boxes, and pasting with targets by area.

A mix draws a box, takes the other images, and pastes them:

    draw = draws(self.per_sample, batch, rng)
    mask = box(x1, y1, x2, y2, like=batch.x)  # corners made from draw.beta(alpha) and draw.integers(n)
    return paste(batch, batch.shuffled(rng), mask)

Draws have the shape (N, 1, 1), which broadcasts to maps of pixels (N, H, W). N is 1 where the batch shares
one draw, and B where each sample has its own.
"""

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.rng import Rng


class Draws:
    """Random numbers (N, 1, 1) of a mix."""

    def __init__(self, batch: Batch, rng: Rng):
        self.batch, self.rng = batch, rng

    def uniform(self) -> Tensor:
        raise NotImplementedError

    def integers(self, n: int | Tensor) -> Tensor:
        """Uniform from 0 to n - 1; n may be (N, 1, 1)."""
        return below(n, self.uniform())


class PerBatch(Draws):
    """One draw for all samples: single numbers on the host, maps on the device."""

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


class PerSample(Draws):
    """A draw for each sample. Views of one image share it, because they share their target."""

    def __init__(self, batch: Batch, rng: Rng):
        super().__init__(batch, rng)
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


def draws(per_sample: bool, batch: Batch, rng: Rng) -> Draws:
    return (PerSample if per_sample else PerBatch)(batch, rng)


def below(n: int | Tensor, uniform: Tensor) -> Tensor:
    """Integers from 0 to n - 1 from uniform numbers in [0, 1)."""
    return (uniform * n).floor().clamp(max=n - 1)  # a float just below 1, times n, may be rounded to n


def box(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor, like: Tensor) -> Tensor:
    """(N, H, W) mask of the box x1 <= x < x2, y1 <= y < y2 in images `like` (B, C, H, W), clipped to them."""
    H, W = like.shape[-2:]
    x, y = torch.arange(W, device=like.device), torch.arange(H, device=like.device)[:, None]
    return (y1 <= y) & (y < y2) & (x1 <= x) & (x < x2)


def area(mask: Tensor, like: Tensor) -> Tensor:
    """(N, 1) fraction of the image that a mask (N, H, W) covers, in the type of `like`."""
    return mask.to(like.dtype).mean((1, 2))[:, None]


def paste(batch: Batch, other: Batch, mask: Tensor) -> Batch:
    """The batch with the pixels of `other` where the mask (N, H, W) is set, and targets mixed by its area."""
    x = torch.where(mask[:, None], other.x, batch.x)
    return batch.replace(x=x, y=torch.lerp(batch.y, other.y, area(mask, like=batch.y)))


def source(x: Tensor, image: Tensor, dx: Tensor | float, dy: Tensor | float) -> Tensor:
    """(B, H, W) indices into x (B, C, H, W): the images `image` (B,), moved by whole pixels (N, 1, 1)."""
    C, H, W = x.shape[1:]
    # A place outside the image takes the pixel at its border; a mask hides it.
    row = (torch.arange(H, device=x.device)[:, None] - dy).clamp(0, H - 1)
    column = (torch.arange(W, device=x.device) - dx).clamp(0, W - 1)
    return image[:, None, None] * (C * H * W) + row.long() * W + column.long()


def fetch(x: Tensor, index: Tensor) -> Tensor:
    """The pixels of x (B, C, H, W) at indices (B, H, W) made by `source`, in one gather."""
    C, H, W = x.shape[1:]
    channel = torch.arange(C, device=x.device)[:, None, None] * (H * W)
    return x.take(index[:, None] + channel)
