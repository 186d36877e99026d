"""What a selection implements, and the network that it is given."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from ..core.batch import Batch


class Network(Protocol):
    """The network of a selection, at one step. Each step either evaluates it or trains it."""

    def losses(self, batch: Batch) -> Tensor:  # (B,)
        """The loss of every sample, in train mode and without a step."""

    def learn(self, batch: Batch, pick: Callable[[Tensor], Tensor]) -> Tensor:  # (N,) images
        """Train the network on the images that `pick` returns for the losses (B,), and return these."""


class Selector(Protocol):
    """Picks the images of a batch that a step learns from."""

    model: str  # name of the network that it is given

    def kept(self, images: int) -> int:
        """The number of images that are picked from a batch of this size."""

    def __call__(self, batch: Batch, network: Network, step: int) -> Tensor:  # (N,) images
        """The places of the picked images in the batch, in ascending order."""
