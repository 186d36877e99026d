"""Which images the epochs of a training are made of: those that are kept, in proportion to their weights."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.errors import require
from ..core.rng import Rng


@dataclass(frozen=True)
class Selection:
    """Of N images those that are kept, and what they weigh. All tensors are on the CPU.

    Without weights an epoch has every image that is kept once. With weights it stays as long, n images, and
    one with the share w of the weights of all that are kept is expected n w times: it comes so often where
    that is a whole number, else as often as the whole number below or above, and n w times in the mean over
    epochs. These are systematic samples (Madow 1949, "On the theory of systematic sampling, II"), each with
    a start and an order of its own. So equal weights draw what none draw, and 0 leaves an image out.
    """

    size: int  # N
    kept: Tensor  # (n,) places, rising
    weights: Tensor | None = None  # (N,) float64

    @classmethod
    def everything(cls, size: int) -> "Selection":
        return cls(size, torch.arange(size))

    def keeping(self, images: Any, least: int) -> "Selection":
        """The same weights on other images: a mask (N,) of bools, or places; None is all.

        Raises:
            ValueError: it is neither, names an image twice, keeps fewer than `least` or none that weighs.
        """
        kept = torch.arange(self.size) if images is None else _places(_tensor(images, "images"), self.size)
        require(len(kept) >= least, "images", f"at least {least}, for one batch", len(kept))
        return replace(self, kept=kept)._possible()

    def weighing(self, weights: Any) -> "Selection":
        """Other weights (N,) on the same images; None is equal ones.

        Raises:
            ValueError: they are no N numbers from 0, or all 0 on the images that are kept.
        """
        if weights is not None:
            weights = _tensor(weights, "weights")
            rule = f"{self.size} numbers, one an image"
            require(weights.shape == (self.size,), "weights", rule, tuple(weights.shape))
            weights = weights.to(torch.float64, copy=True)  # the user may go on writing into theirs
            wrong = weights[~(weights.isfinite() & (weights >= 0))].tolist()
            require(not wrong, "weights", "finite and at least 0", next(iter(wrong), None))
        return replace(self, weights=weights)._possible()

    def drawn(self, seed: int, epoch: int) -> Tensor:
        """(n,) the places of an epoch's images, rising; one that is drawn several times stands so often."""
        if self.weights is None:
            return self.kept
        rng = Rng(seed, "weigh", epoch)
        images = self.kept[rng.permutation(len(self.kept))]
        ends = self.weights[images].cumsum(0)
        ends = ends / ends[-1] * len(images)
        # Each image is a piece of a line of length n, on which marks lie at distance 1. They begin within a
        # millionth, not at its ends: so the last digits of the sums decide nothing where lengths are whole.
        start = (rng.host.randrange(1_000_000) + 0.5) / 1_000_000
        times = (ends - start).ceil().diff(prepend=ends.new_zeros(1))
        return images.repeat_interleave(times.long()).sort().values

    def _possible(self) -> "Selection":
        total = 1.0 if self.weights is None else self.weights[self.kept].sum().item()
        require(0 < total < float("inf"), "weights", "of a finite sum above 0 on the images kept", total)
        return self


def _tensor(values: Any, argument: str) -> Tensor:
    try:
        # By way of numpy, for torch would read 0.1 in a list as a float32.
        return torch.as_tensor(values if isinstance(values, Tensor) else np.asarray(values)).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{argument} must be a tensor, an array or a list, got {values!r}") from None


def _places(images: Tensor, size: int) -> Tensor:
    """The places, rising, that a mask over so many images or places among them mean."""
    require(images.ndim == 1, "images", "a mask or places, in one dimension", tuple(images.shape))
    if images.dtype is torch.bool:
        require(len(images) == size, "images", f"a mask over {size} images", len(images))
        return images.nonzero().flatten()
    whole = not images.is_floating_point() and not images.is_complex()
    require(whole or not len(images), "images", "a mask of bools, or whole numbers", images.dtype)
    places, times = images.long().unique(return_counts=True)
    outside = places[(places < 0) | (places >= size)].tolist()
    require(not outside, "images", f"places from 0 to {size - 1}", next(iter(outside), None))
    twice = places[times > 1].tolist()
    require(not twice, "images", "a mask of bools, or places that differ", next(iter(twice), None))
    return places
