"""What the maps of the ERASE stage share: how a part of an image is hidden, and what it is filled with."""

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.rng import Rng


def within(start: Tensor, length: Tensor | int, size: int) -> Tensor:
    """(..., size) which of `size` pixels lie in [start, start + length), both (...)."""
    pixel = torch.arange(size, device=start.device) - start[..., None]
    length = length[..., None] if isinstance(length, Tensor) else length
    return (pixel >= 0) & (pixel < length)


def rectangle(rows: Tensor, columns: Tensor, like: Tensor) -> Tensor:
    """(B, 1, H, W): 1 where the row, (B, H), and the column, (B, W), are marked; of the type of `like`."""
    rows, columns = rows.to(like.dtype), columns.to(like.dtype)
    return rows[:, None, :, None] * columns[:, None, None, :]


def erased(x: Tensor, hidden: Tensor, fill: Tensor | None = None) -> Tensor:
    """`x` (B, C, H, W) with `fill` where `hidden` (B, 1, H, W) is 1 and not 0; both are of the same type.

    Without a fill it is the mean colour, of which NORMALIZE has made 0.
    """
    # Exact at both ends; masked_fill takes twice as long as either.
    if fill is None:
        return torch.addcmul(x, x, hidden, value=-1)
    return torch.lerp(x, fill.to(x.dtype), hidden)


def noise(batch: Batch, rng: Rng, *shape: int) -> Tensor:
    """Values of this shape, each uniform from black to white."""
    u = rng.fold("noise").uniform(*shape, like=batch.x)
    return torch.lerp(batch.scale.black, batch.scale.white, u)
