"""Checks before a run starts: what cannot work is refused at once, and not hours later."""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..augment.pipeline import BatchMap, Step, pipeline
from ..config.schema import Config
from ..core.batch import Batch
from ..core.errors import BadInput, located, out_of_memory
from ..core.facts import Stage
from ..core.registry import SOURCES, augmentations
from ..core.rng import Rng
from ..engine.step import Batches
from .selections import images_kept


@contextlib.contextmanager
def augmenting(shape: tuple[int, ...]) -> Iterator[None]:
    """Turn a failure of an augmentation that cannot take images of `shape` (C, H, W) into BadInput."""
    try:
        yield
    except (ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, BadInput) or out_of_memory(error):
            raise
        raise BadInput(f"augment: images of {shape} cannot be augmented so: {error}") from error


@dataclass(frozen=True)
class NetworkCheck:
    """Tries networks on the images of a run.

    Args:
        steps: the augmentations of the run.
    """

    data: Batches
    steps: list[Step]
    epochs: float

    def __call__(
        self,
        model: nn.Module,
        images: int,
        accumulate: int = 1,
        finalize: BatchMap | None = None,
        name: str = "the model",
    ) -> None:
        """Try a model.

        Args:
            images: of a batch that the model learns from; the first ones stand in for those selected later.
            accumulate: micro-batches of a step.
            finalize: what is done to these images after augmentation.
        Raises:
            BadInput: the model cannot take the images, or one of the sizes that they have in some epoch.
        """
        resizing = [step for step in self.steps if step.stage is Stage.RESIZE]
        augment = pipeline(step for step in self.steps if step not in resizing)

        def prepare(batch: Batch, rng: Rng) -> Batch:
            batch = augment(batch, rng)
            batch = batch.take(slice(images * batch.views))
            return finalize(batch, rng) if finalize else batch

        batch = try_out(model, prepare, self.data, accumulate, name)
        try_sizes(model, resizing, batch, self.epochs, name)


@torch.no_grad()
def try_out(
    model: nn.Module, prepare: BatchMap, data: Batches, accumulate: int, name: str = "the model"
) -> Batch:
    """Refuse a trick or a model that cannot take these images, which only a batch of them shows.

    Returns:
        The first of them, augmented: those that the model was tried with.
    """
    batch = data.at(0)
    shape, wanted = tuple(batch.x.shape[1:]), data.split.shape
    with augmenting(shape):
        batch = prepare(batch, Rng(0))
    if wanted != shape == tuple(batch.x.shape[1:]):
        cuts = [f"{e.name}-{e.facts.cuts}" for e in augmentations.entries() if e.facts.cuts]
        flags = " or ".join(f"--{cut} {wanted[1]}".replace("_", "-") for cut in cuts)
        raise BadInput(
            f"training images are {shape[1]} pixels wide, but {wanted[1]} where they are evaluated, and "
            f"nothing cuts them; give {flags}, or leave out --data.train-size"
        )
    # BatchNorm refuses a single image where its map is 1x1; two of them show all else.
    images = min(2, min(map(len, batch.split(accumulate))))
    batch = batch.take(slice(images))
    _try_forward(model, batch, f"images of {shape}", name)
    return batch


@torch.no_grad()
def try_sizes(
    model: nn.Module, resizing: list[Step], batch: Batch, epochs: float, name: str = "the model"
) -> None:
    """Refuse a model that cannot take a size that its images have in some epoch."""
    steps, resize, tried = " and ".join(step.name for step in resizing), pipeline(resizing), {batch.x.shape}
    for epoch in range(math.ceil(epochs) if resizing else 0):
        resized = resize(batch.replace(epoch=epoch), Rng(0))
        if resized.x.shape not in tried:
            tried.add(resized.x.shape)
            images = f"images of {tuple(resized.x.shape[1:])} that {steps} makes in epoch {epoch}"
            _try_forward(model, resized, images, name)


def _try_forward(model: nn.Module, batch: Batch, images: str, name: str) -> None:
    trial = copy.deepcopy(model)  # a forward in train mode changes BatchNorm's statistics
    try:
        logits = trial(batch.x)
    except Exception as error:
        if isinstance(error, BadInput) or out_of_memory(error):
            raise
        reason = located(error, SOURCES / "models")
        raise BadInput(
            f"{name} cannot take {images}, {len(batch)} at once ({reason}); it may need larger ones"
        ) from error
    wanted, got = (
        tuple(batch.y.shape),
        tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__,
    )
    if got != wanted:
        raise BadInput(
            f"{name} must map {images} to logits of {wanted}, got {got}; see num_classes in its file"
        )


@torch.no_grad()
def try_views(
    views: dict[str, Callable[..., nn.Module]], shape: tuple[int, int, int], device: torch.device
) -> None:
    """Refuse test-time views that these images do not have, rather than at the end of the run."""
    x = torch.zeros(1, *shape, device=device)
    # Its logits are 0, so no view is skipped.
    undecided = nn.Sequential(nn.Flatten(), nn.Threshold(math.inf, 0.0))
    for name, view in views.items():
        try:
            view(model=undecided)(x)
        except (ValueError, RuntimeError) as error:
            if isinstance(error, BadInput) or out_of_memory(error):
                raise
            raise BadInput(f"view {name}: images of {shape} have no such views: {error}") from error


def ineffective_splits(config: Config) -> list[str]:
    """Notes on surgery that splits a micro-batch into parts which are not smaller, and so changes nothing."""
    images = images_kept(config) // config.train.accumulate
    found = []
    for name, choice in config.tricks["surgery"].items():
        field = choice.entry.facts.splits
        if field and images < 2 * (size := choice.options[field]):
            smaller = f"--{name}-{field} of at most {images // 2}".replace("_", "-")
            found.append(
                f"{name} changes nothing: a micro-batch has {images} images, and its parts at least {size}; "
                f"give a {smaller if images > 1 else '--batch-size that is larger'}"
            )
    return found
