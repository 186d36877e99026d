"""The augmentation pipeline: maps of a batch in the order of their stages, with one mix per batch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Generator, Tensor

from ..core.batch import Batch, Loss, PixelScale
from ..core.contracts import Epoch, Fraction
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng

BatchMap = Callable[[Batch, Rng], Batch]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A map of a batch: subclasses implement `apply`, and the pipeline calls it.

    In any other training loop, call the augmentation on tensors:

        x = Crop(padding=4)(x, seed=step)
        x, y = CutMix()(x, y, num_classes=10, generator=generator)
    """

    start: Epoch = 0  # first epoch in which it is applied
    stop: Epoch | None = None  # first epoch in which it is no longer applied; none: it never stops

    def __post_init__(self):
        require(self.stop is None or self.stop > self.start, "stop", f"above start {self.start}", self.stop)
        for name, largest in vars(self).items():
            if name.endswith("_max"):  # the end of a range that begins at `_min`
                smallest = name.replace("_max", "_min")
                value = getattr(self, smallest)
                require(value <= largest, smallest, f"at most {name} {largest}", value)

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        raise NotImplementedError

    def __call__(
        self,
        x: Tensor,
        y: Tensor | None = None,
        *,
        seed: int | None = None,
        generator: Generator | None = None,
        num_classes: int | None = None,
        epoch: int = 0,
        index: Tensor | None = None,
        scale: PixelScale | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Augment images, and their targets if they are given.

        Args:
            x: (B, C, H, W) images, uint8 for the stages up to NORMALIZE and float for the later ones.
            y: (B,) classes or (B, K) probabilities. Mixes and label smoothing need them.
            seed: equal seeds make equal draws, so each batch needs another one.
            generator: draws the seed where none is given; by default torch's global generator.
            num_classes: K, for classes that become probabilities.
            epoch: number of the epoch, for augmentations that depend on it.
            index: (B,) indices in the data set. Alternating flips need them, and one seed for all epochs.
            scale: the values of black and white, to fill with black or noise; see `Normalize.scale`.
        Returns:
            The images alone if y is None, else (x, y). Mixes and label smoothing return probabilities, other
            augmentations return y as it was given, repeated where they make several views of an image.
        Raises:
            ValueError: an argument is missing, or the images have the wrong type.
        """
        require(seed is None or generator is None, "generator", "None where a seed is given", generator)
        entry = augmentations.entry_of(type(self))
        name, stage = (entry.name, entry.facts.stage) if entry else (type(self).__name__, None)
        if stage in (Stage.GEOMETRY, Stage.COLOR):
            require(x.dtype == torch.uint8, "x", f"uint8 for {name}", x.dtype)
        if stage in (Stage.TONE, Stage.ERASE, Stage.MIX, Stage.RESIZE):
            require(x.is_floating_point(), "x", f"floating point for {name}", x.dtype)
        if stage in (Stage.MIX, Stage.LABEL):
            require(y is not None, "y", f"given for {name}", y)
            holds = y.ndim == 2 or num_classes is not None
            require(holds, "num_classes", "given for y of classes", num_classes)
            y = Batch.of(x, y, num_classes).y
        rng = Rng.from_generator(generator) if seed is None else Rng(seed)
        # Only mixes and label smoothing read y: others pass on classes, or None, as they are.
        batch = pipeline([Step(name, stage, self)])(Batch(x, y, index, epoch, scale=scale), rng)
        return batch.x if y is None else (batch.x, batch.y)

    def is_active(self, epoch: int) -> bool:
        return self.start <= epoch and (self.stop is None or epoch < self.stop)

    def within(self, epochs: float) -> Self:
        """The augmentation for a run of `epochs`; a ValueError if it would never be applied."""
        require(self.start < epochs, "start", f"below the run's {epochs:g} epochs", self.start)
        return self

    def loss(self, base: Loss) -> Loss:
        """The loss to train with: another one than `base` if the augmentation adds a term to it."""
        return base


@dataclass(frozen=True)
class Step:
    name: str  # part of the key of its random numbers, so they do not depend on the other steps
    stage: Stage
    map: Augmentation


def pipeline(steps: Iterable[Step]) -> BatchMap:
    """One map that applies `steps` in order of stage, then name, and one of the mixes per batch."""
    steps = ordered(steps)

    def prepare(batch: Batch, rng: Rng) -> Batch:
        for _, after in applied(steps, batch, rng):
            batch = after
        return batch

    return prepare


def ordered(steps: Iterable[Step]) -> list[Step]:
    """The steps in order of stage, then name, with all mixes in one step."""
    steps = sorted(steps, key=lambda step: (step.stage, step.name))
    mixes = [step for step in steps if step.stage is Stage.MIX]
    if mixes:
        first = steps.index(mixes[0])
        steps = [step for step in steps if step not in mixes]
        steps.insert(first, Step("mix", Stage.MIX, OneOf(tuple(mixes))))
    return steps


def applied(steps: Iterable[Step], batch: Batch, rng: Rng) -> Iterator[tuple[Step, Batch]]:
    """Each ordered step that is active in the batch's epoch, with the batch after it."""
    for step in steps:
        if step.map.is_active(batch.epoch):
            batch = step.map.apply(batch, rng.fold(step.name))
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
    probs = ", ".join(f"{mix.name} {mix.map.prob:g}{_epochs(mix.map)}" for mix in mixes)
    one = f"one of ({probs})" if len(mixes) > 1 else probs
    return one if total >= 1 else f"{one} or none"


def _epochs(augmentation: Augmentation) -> str:
    start, stop = augmentation.start, augmentation.stop
    parts = [f"from epoch {start}"] if start else []
    parts += [f"before epoch {stop}"] if stop is not None else []
    return f" ({', '.join(parts)})" if parts else ""


@dataclass(frozen=True, kw_only=True)
class Mix(Augmentation):
    """An augmentation of the MIX stage."""

    prob: Fraction = 1.0  # fraction of the batches that are mixed so; a weight if the sum exceeds 1
    per_sample: bool = False  # draw for each image, and not once for the batch


@dataclass(frozen=True)
class OneOf(Augmentation):
    """Draws one mix for a batch, or none if the probabilities sum to less than 1.

    Two region mixes in sequence would give wrong labels: a box cut from an image that was itself pasted into
    does not hold that image's average label.
    """

    mixes: tuple[Step, ...]

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        step = self.draw(batch.epoch, rng)
        return step.map.apply(batch, rng.fold(step.name)) if step else batch

    def is_active(self, epoch: int) -> bool:
        return any(step.map.is_active(epoch) for step in self.mixes)

    def draw(self, epoch: int, rng: Rng) -> Step | None:
        """The mix of a batch: a function of the epoch and the key of `rng`."""
        mixes = [step for step in self.mixes if step.map.is_active(epoch)]
        # A fresh generator, so that repeated calls return the same choice.
        drawn = rng.fold().host.random() * max(1.0, sum(step.map.prob for step in mixes))
        for step in mixes:
            if drawn < step.map.prob:
                return step
            drawn -= step.map.prob
        return None


@dataclass(frozen=True, kw_only=True)
class Shard(Augmentation):
    """Keeps the part of the batch that this process trains on.

    Every process prepares the whole batch before. So the draws do not depend on the number of processes, and
    a mix can pair any two images. The repeated work is small compared with the network's. Teachers come
    later and see only the shard.
    """

    rank: int
    size: int

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        return batch.shard(self.rank, self.size)


@dataclass(frozen=True)
class Normalize(Augmentation):
    """uint8 pixels to float pixels with mean 0 and variance 1 in each channel."""

    mean: Tensor  # (C, 1, 1) of the data set, for pixels in [0, 1]
    std: Tensor  # (C, 1, 1) likewise

    @property
    def scale(self) -> PixelScale:
        """The values of black and white pixels after normalisation."""
        return PixelScale(black=-self.mean / self.std, white=(1 - self.mean) / self.std)

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        return batch.replace(x=self.pixels(batch.x), scale=self.scale)

    def pixels(self, x: Tensor) -> Tensor:
        """(B, C, H, W) uint8 to float32. Evaluation does this and nothing else to an image."""
        pixels = x.float()
        # One pass, and with a factor and a shift for each pixel twice as fast as with one for each channel.
        factor, shift = 1 / (self.std * 255), -self.mean / self.std
        factor, shift = (value.expand(pixels.shape[1:]).contiguous() for value in (factor, shift))
        return torch.addcmul(shift, pixels, factor, out=pixels)
