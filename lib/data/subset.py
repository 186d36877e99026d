"""The subset of the training images that epochs are made of, drawn in proportion to weights."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import require
from ..core.rng import Rng


@dataclass(frozen=True)
class ImageSubset:
    """The images of a training set that are kept, and their weights. All tensors are on the CPU.

    Without weights an epoch contains each of the n kept images once. With weights it has n images too, and an
    image whose fraction of the sum of the kept weights is w is expected n w times: floor(n w) or ceil(n w)
    times in an epoch, and n w times in the mean over epochs. Each epoch is a systematic sample (Madow 1949,
    "On the theory of systematic sampling, II") with a random start and order. So equal weights draw the same
    as no weights, and a weight of 0 leaves an image out.
    """

    size: int  # N
    kept: Tensor  # (n,) indices, ascending
    weights: Tensor | None = None  # (N,) float64

    @classmethod
    def everything(cls, size: int) -> "ImageSubset":
        return cls(size, torch.arange(size))

    def keeping(self, images: Any, least: int) -> "ImageSubset":
        """The subset of other images with the same weights.

        Args:
            images: a mask (N,) of bools, or indices; None is all images.
            least: images that must be left.
        Raises:
            ValueError: it is neither, has an index twice, or too few images or no weight above 0 are left.
        """
        kept = torch.arange(self.size) if images is None else _indices(_tensor(images, "images"), self.size)
        require(len(kept) >= least, "images", f"at least {least}, for one batch", len(kept))
        return replace(self, kept=kept)._checked()

    def weighing(self, weights: Any) -> "ImageSubset":
        """The same images with other weights.

        Args:
            weights: (N,) numbers of at least 0; None is equal weights.
        Raises:
            ValueError: they are not, or all are 0 on the images that are kept.
        """
        if weights is not None:
            weights = _tensor(weights, "weights")
            rule = f"{self.size} numbers, one per image"
            require(weights.shape == (self.size,), "weights", rule, tuple(weights.shape))
            weights = weights.to(torch.float64, copy=True)  # the caller may change theirs later
            wrong = weights[~(weights.isfinite() & (weights >= 0))].tolist()
            require(not wrong, "weights", "finite and at least 0", next(iter(wrong), None))
        return replace(self, weights=weights)._checked()

    def drawn(self, seed: int, epoch: int) -> Tensor:
        """(n,) the indices of the images of an epoch, ascending and with repetitions."""
        if self.weights is None:
            return self.kept
        rng = Rng(seed, "weigh", epoch)
        images = self.kept[rng.permutation(len(self.kept))]
        ends = self.weights[images].cumsum(0)
        ends = ends / ends[-1] * len(images)
        # Images are consecutive segments of a line of length n, with marks at distance 1. The first mark is
        # in the middle of a millionth, so rounding of the sums changes nothing where lengths are integers.
        start = (rng.host.randrange(1_000_000) + 0.5) / 1_000_000
        times = (ends - start).ceil().diff(prepend=ends.new_zeros(1))
        return images.repeat_interleave(times.long()).sort().values

    def _checked(self) -> "ImageSubset":
        total = 1.0 if self.weights is None else self.weights[self.kept].sum().item()
        require(0 < total < float("inf"), "weights", "of a finite sum above 0 on the images kept", total)
        return self


def _tensor(values: Any, argument: str) -> Tensor:
    try:
        # Through numpy, because torch reads 0.1 in a list as float32.
        return torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values)).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{argument} must be a tensor, an array or a list, got {values!r}") from None


def _indices(images: Tensor, size: int) -> Tensor:
    """The indices, ascending, of a mask over `size` images or of indices in any order."""
    require(images.ndim == 1, "images", "a mask or indices, in one dimension", tuple(images.shape))
    if images.dtype is torch.bool:
        require(len(images) == size, "images", f"a mask over {size} images", len(images))
        return images.nonzero().flatten()
    whole = not images.is_floating_point() and not images.is_complex()
    require(whole or not len(images), "images", "a mask of bools, or integers", images.dtype)
    indices, times = images.long().unique(return_counts=True)
    outside = indices[(indices < 0) | (indices >= size)].tolist()
    require(not outside, "images", f"indices from 0 to {size - 1}", next(iter(outside), None))
    twice = indices[times > 1].tolist()
    require(not twice, "images", "a mask of bools, or distinct indices", next(iter(twice), None))
    return indices
