"""What is done to a batch before the step: the enabled maps in the order of their stages, one mix a batch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.batch import Batch, Loss, PixelScale
from ..core.contracts import Epoch
from ..core.errors import require
from ..core.facts import Stage
from ..core.rng import Rng

BatchMap = Callable[[Batch, Rng], Batch]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What every map of a batch has. A subclass says in `__call__` what it does to the batch."""

    start: Epoch = 0  # the first epoch, from 0, in which it is applied
    stop: Epoch | None = None  # the first epoch in which it is applied no longer; none is never

    def __post_init__(self):
        require(self.start >= 0, "start", "at least 0", self.start)
        require(self.stop is None or self.stop > self.start, "stop", f"above start {self.start}", self.stop)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        raise NotImplementedError

    def applies(self, epoch: int) -> bool:
        return self.start <= epoch and (self.stop is None or epoch < self.stop)

    def within(self, epochs: float) -> "Augmentation":
        """The same in a run of so many epochs; refuses one in which it would never be applied."""
        require(self.start < epochs, "start", f"below the run's {epochs:g} epochs", self.start)
        return self

    def loss(self, base: Loss) -> Loss:
        """The loss that goes with it: another one only where it asks something of the logits."""
        return base


@dataclass(frozen=True)
class Step:
    name: str  # folds the random numbers, so a step draws the same whichever others are on
    stage: Stage
    map: Augmentation


def pipeline(steps: Iterable[Step]) -> BatchMap:
    """One map that applies `steps` in order of stage, then name; of the mixes it draws one a batch."""
    steps = ordered(steps)

    def prepare(batch: Batch, rng: Rng) -> Batch:
        for _, after in applied(steps, batch, rng):
            batch = after
        return batch

    return prepare


def ordered(steps: Iterable[Step]) -> list[Step]:
    """The steps in order of stage, then name, with all the mixes as one."""
    steps = sorted(steps, key=lambda step: (step.stage, step.name))
    mixes = [step for step in steps if step.stage is Stage.MIX]
    if mixes:
        first = steps.index(mixes[0])
        steps = [step for step in steps if step not in mixes]
        steps.insert(first, Step("mix", Stage.MIX, OneOf(tuple(mixes))))
    return steps


def applied(steps: Iterable[Step], batch: Batch, rng: Rng) -> Iterator[tuple[Step, Batch]]:
    """Each of the ordered steps that the batch's epoch has, with the batch after it."""
    for step in steps:
        if step.map.applies(batch.epoch):
            batch = step.map(batch, rng.fold(step.name))
            yield step, batch


def describe(steps: Iterable[Step]) -> str:
    """The ordered steps in one line: `crop > normalize > cutout > one of (cutmix 0.5, mixup 1)`."""
    return " > ".join(_described(step) for step in steps)


def _described(step: Step) -> str:
    if not isinstance(step.map, OneOf):
        return f"{step.name}{_epochs(step.map)}"
    mixes, total = step.map.mixes, sum(mix.map.prob for mix in step.map.mixes)
    if len(mixes) == 1 and total == 1:
        return _described(mixes[0])
    shares = ", ".join(f"{mix.name} {mix.map.prob:g}{_epochs(mix.map)}" for mix in mixes)
    one = f"one of ({shares})" if len(mixes) > 1 else shares
    return one if total >= 1 else f"{one} or none"


def _epochs(augmentation: Augmentation) -> str:
    start, stop = augmentation.start, augmentation.stop
    parts = [f"from epoch {start}"] if start else []
    parts += [f"before epoch {stop}"] if stop is not None else []
    return f" ({', '.join(parts)})" if parts else ""


@dataclass(frozen=True, kw_only=True)
class Mix(Augmentation):
    """What every map of the MIX stage has."""

    prob: float = 1.0  # share of the batches that it is drawn for; a weight where the shares exceed 1
    per_sample: bool = False  # weights and places of each image's own, instead of one draw for the batch

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.prob <= 1, "prob", "above 0 and at most 1", self.prob)


@dataclass(frozen=True)
class OneOf(Augmentation):
    """Draws one mix for a batch, or none where the probabilities leave room.

    Two region mixes in sequence would give wrong labels: the pasted part of an image that is itself pasted
    does not hold that image's average label.
    """

    mixes: tuple[Step, ...]

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        step = self.draw(batch.epoch, rng)
        return step.map(batch, rng.fold(step.name)) if step else batch

    def applies(self, epoch: int) -> bool:
        return any(step.map.applies(epoch) for step in self.mixes)

    def draw(self, epoch: int, rng: Rng) -> Step | None:
        """The mix of a batch, which is a function of the key of `rng`."""
        mixes = [step for step in self.mixes if step.map.applies(epoch)]
        shares = [step.map.prob for step in mixes]
        # A generator of its own: who asks again is told the same.
        drawn = rng.fold().host.random() * max(1.0, sum(shares))
        for step, share in zip(mixes, shares, strict=True):
            if drawn < share:
                return step
            drawn -= share
        return None


@dataclass(frozen=True, kw_only=True)
class Share(Augmentation):
    """The part of the batch that this one of several processes trains on.

    All have prepared the whole batch until here: so the draws of no trick depend on how many there are, a mix
    finds the partners of every image, and a trick knows nothing of it. It costs them the same work again,
    which is little beside a network's; what a teacher does comes afterwards.
    """

    rank: int
    size: int

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        return batch.share(self.rank, self.size)


@dataclass(frozen=True)
class Normalize(Augmentation):
    """uint8 pixels to floats of mean 0 and variance 1, channel by channel; the statistics are in [0, 1]."""

    mean: Tensor  # (C, 1, 1)
    std: Tensor  # (C, 1, 1)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        scale = PixelScale(black=-self.mean / self.std, white=(1 - self.mean) / self.std)
        return batch.replace(x=self.pixels(batch.x), scale=scale)

    def pixels(self, x: Tensor) -> Tensor:
        """(B, C, H, W) uint8 to float32: all that evaluation does to an image."""
        pixels = x.float()
        # One pass, and with a factor and a shift for each pixel twice as fast as with one for each channel.
        factor, shift = 1 / (self.std * 255), -self.mean / self.std
        factor, shift = (value.expand(pixels.shape[1:]).contiguous() for value in (factor, shift))
        return torch.addcmul(shift, pixels, factor, out=pixels)
