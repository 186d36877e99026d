"""What is done to a batch before the step: the enabled maps in the order of their stages, one mix a batch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from lib.augment.stage import Stage
from lib.batch import Batch
from lib.errors import require
from lib.rng import Rng

BatchMap = Callable[[Batch, Rng], Batch]


@dataclass(frozen=True)
class Step:
    name: str  # folds the random numbers, so a step draws the same whichever others are on
    stage: Stage
    map: BatchMap


def pipeline(steps: Iterable[Step]) -> BatchMap:
    """One map that applies `steps` in order of stage, then name; of the mixes it draws one a batch."""
    steps = sorted(steps, key=lambda step: (step.stage, step.name))
    mixes = [step for step in steps if step.stage is Stage.MIX]
    if mixes:
        first = steps.index(mixes[0])
        steps = [step for step in steps if step not in mixes]
        steps.insert(first, Step("mix", Stage.MIX, OneOf(mixes)))

    def prepare(batch: Batch, rng: Rng) -> Batch:
        for step in steps:
            batch = step.map(batch, rng.fold(step.name))
        return batch

    return prepare


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What every map of the MIX stage has."""

    prob: float = 1.0  # share of the batches that it is drawn for; a weight where the shares exceed 1

    def __post_init__(self):
        require(0 < self.prob <= 1, "prob", "above 0 and at most 1", self.prob)


class OneOf:
    """Draws one mix for a batch, or none where the probabilities leave room.

    Two region mixes in sequence would give wrong labels: the pasted part of an image that is itself pasted
    does not hold that image's average label.
    """

    def __init__(self, mixes: list[Step]):
        self.mixes = mixes

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        shares = [step.map.prob for step in self.mixes]
        drawn = rng.host.random() * max(1.0, sum(shares))
        for step, share in zip(self.mixes, shares, strict=True):
            if drawn < share:
                return step.map(batch, rng.fold(step.name))
            drawn -= share
        return batch


@dataclass(frozen=True)
class Normalize:
    """uint8 pixels to floats of mean 0 and variance 1, channel by channel; the statistics are in [0, 1]."""

    mean: Tensor  # (C, 1, 1)
    std: Tensor  # (C, 1, 1)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        return batch.replace(x=self.pixels(batch.x))

    def pixels(self, x: Tensor) -> Tensor:
        """(B, C, H, W) uint8 to float32: all that evaluation does to an image."""
        return x.float().sub_(self.mean * 255).div_(self.std * 255)
