"""Parts of the augmentations that hide a region of an image: masks and fills."""

import torch
from torch import Tensor

from ..core.batch import Batch, PixelScale
from ..core.errors import require
from ..core.rng import Rng


def within(start: Tensor, length: Tensor | int, size: int) -> Tensor:
    """(..., size) mask of the pixels in [start, start + length), both (...), of a side of `size` pixels."""
    pixel = torch.arange(size, device=start.device) - start[..., None]
    length = length[..., None] if isinstance(length, Tensor) else length
    return (pixel >= 0) & (pixel < length)


def rectangle(rows: Tensor, columns: Tensor, like: Tensor) -> Tensor:
    """(B, 1, H, W) 1 where both the row, (B, H), and the column, (B, W), are set; in the type of `like`."""
    rows, columns = rows.to(like.dtype), columns.to(like.dtype)
    return rows[:, None, :, None] * columns[:, None, None, :]


def erased(x: Tensor, hidden: Tensor, fill: Tensor | None = None) -> Tensor:
    """`x` (B, C, H, W) with `fill` where `hidden` (B, 1, H, W), of the same type, is 1 and not 0.

    Without a fill it is the mean colour, which NORMALIZE maps to 0.
    """
    # Exact at both ends; masked_fill takes twice as long as either.
    if fill is None:
        return torch.addcmul(x, x, hidden, value=-1)
    return torch.lerp(x, fill.to(x.dtype), hidden)


def black(batch: Batch) -> Tensor:
    """(C, 1, 1) the value of black pixels."""
    return _scale(batch).black


def noise(batch: Batch, rng: Rng, *shape: int) -> Tensor:
    """Values of this shape, each uniform from black to white."""
    u = rng.fold("noise").uniform(*shape, like=batch.x)
    return torch.lerp(_scale(batch).black, _scale(batch).white, u)


def _scale(batch: Batch) -> PixelScale:
    rule = "given to fill with black or noise: Normalize(mean, std).scale, or PixelScale(black, white)"
    require(batch.scale is not None, "scale", rule, batch.scale)
    return batch.scale
