"""Data filtering by a proxy (Jordan 2024, airbench96_faster of github.com/KellerJordan/cifar10-airbench).

A small network sees every batch first, and the run's own network learns from the images with the largest
losses there. The small one learns from these too, but only from those of every fourth batch; its norms see
the whole batch. It has the run's loss, optimizer with wrappers, schedule and filters computed from data
(whitening). Teachers, surgery, other initial weights, averages and the freezing of the first block are for
the run's own network only.

The author's program trains the small network first and stores its choices. As it is independent of the larger
one, training both at once gives the same.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval
from torch import Tensor

from ..core.batch import Batch
from ..core.contracts import Count
from ..core.errors import require
from ..core.registry import selections
from .selector import Network


@selections.register("proxy", paper="Jordan 2024, airbench96_faster")
@dataclass(frozen=True)
class Proxy:
    """A small network picks the images with the largest losses; only these are learned from."""

    model: str = "airbench96_proxy"  # the small network, by its name
    keep: Annotated[float, Interval(gt=0, lt=1)] = 0.5  # fraction of the images of a batch that is kept
    every: Count = 4  # the small network takes a step on one of this many batches

    def kept(self, images: int) -> int:
        count = round(self.keep * images)
        rule = f"a fraction that keeps some of {images} images, not all"
        require(0 < count < images, "keep", rule, self.keep)
        return count

    def __call__(self, batch: Batch, network: Network, step: int) -> Tensor:  # (N,) images
        def pick(losses: Tensor) -> Tensor:  # (B,) -> (N,)
            return hardest(losses.unflatten(0, (-1, batch.views)).mean(1), self.kept(batch.images))

        return network.learn(batch, pick) if step % self.every == 0 else pick(network.losses(batch))


def hardest(losses: Tensor, count: int) -> Tensor:  # (B,) -> (count,)
    """The places of the largest losses, in their order in the batch."""
    return losses.argsort(descending=True, stable=True)[:count].sort().values
