"""A part of a data set for evaluation: its images, and how their pixels become the input of a model."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from .base import Split


@dataclass(frozen=True)
class Images:
    """A part of a data set: every image once, in order, without augmentation."""

    split: Split
    normalize: Callable[[Tensor], Tensor]  # (B, C, H, W) uint8 to the float32 that a model takes

    @property
    def x(self) -> Tensor:
        """(N, C, H, W) uint8 pixels."""
        return self.split.x

    @property
    def y(self) -> Tensor:
        """(N,) int64 classes."""
        return self.split.y

    def __len__(self) -> int:
        return len(self.split)

    def take(self, index: Tensor | slice) -> "Images":
        """The images at `index`, in that order."""
        return replace(self, split=self.split.take(index))
