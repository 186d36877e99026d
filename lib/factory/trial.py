"""Trials before a run begins: what cannot work is refused at once, and not hours later."""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ..augment.pipeline import BatchMap, Step, pipeline
from ..core.batch import Batch
from ..core.errors import BadInput
from ..core.precision import Precision, autocast
from ..core.registry import augmentations
from ..core.rng import Rng
from ..engine.step import Batches

RECORDED = 3  # forwards until a CUDA graph is replayed: one warms up, one is recorded


@contextlib.contextmanager
def augmenting(shape: tuple[int, ...]) -> Iterator[None]:
    """What fails within is an augmentation that cannot take images of `shape` (C, H, W): BadInput."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, OverflowError) as error:
        raise BadInput(f"augment: images of {shape} cannot be augmented so: {error}") from error


@torch.no_grad()
def try_out(
    model: nn.Module, prepare: BatchMap, data: Batches, accumulate: int, name: str = "the model"
) -> Batch:
    """Refuse a trick or a model that cannot take these images, which nothing but a batch of them shows.

    Returns:
        The first of them, augmented: as many as the model was tried with.
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
    _try_forward(model, batch.x, f"images of {shape}", name)
    return batch


@torch.no_grad()
def try_sizes(
    model: nn.Module, resizing: list[Step], batch: Batch, epochs: float, name: str = "the model"
) -> None:
    """Refuse a model that cannot take a size that its images have in some epoch."""
    steps, resize, tried = " and ".join(step.name for step in resizing), pipeline(resizing), {batch.x.shape}
    for epoch in range(math.ceil(epochs) if resizing else 0):
        x = resize(batch.replace(epoch=epoch), Rng(0)).x
        if x.shape not in tried:
            tried.add(x.shape)
            images = f"images of {tuple(x.shape[1:])} that {steps} makes in epoch {epoch}"
            _try_forward(model, x, images, name)


def _try_forward(model: nn.Module, x: Tensor, images: str, name: str) -> None:
    trial = copy.deepcopy(model)  # a forward in train mode moves BatchNorm's statistics
    try:
        trial(x)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, AssertionError) as error:
        raise BadInput(f"{name} cannot take {images}, {len(x)} at once: {error}") from error


@torch.no_grad()
def try_views(views: dict[str, Callable[..., nn.Module]], data: Batches) -> None:
    """Refuse views that these images do not have, rather than in the end of the run."""
    x = torch.zeros(1, *data.split.shape, device=data.split.y.device)
    # A network whose logits are 0: it has use for every view.
    undecided = nn.Sequential(nn.Flatten(), nn.Threshold(math.inf, 0.0))
    for name, view in views.items():
        try:
            view(model=undecided)(x)
        except (ValueError, RuntimeError) as error:
            raise BadInput(
                f"view {name}: images of {data.split.shape} have no such views: {error}"
            ) from error


def compiled(
    model: nn.Module, x: Tensor, mode: str, precision: Precision, note: Callable[[str], None]
) -> nn.Module:
    """The model, compiled for batches like `x` (B, C, H, W); or as it was, with the reason in a note.

    It is compiled here and not in the first step, lest that be taken for time of training.
    """
    as_it_was = copy.deepcopy(model)
    model.compile(mode=mode)
    try:
        for _ in range(RECORDED):
            with autocast(x.device, precision):
                model(x).sum().backward()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Inductor fails in many ways: no compiler, an operator it does not know...
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        note(f"compile: not used, {type(error).__name__}: {' '.join(said[:2])}")  # of what, and why
        return as_it_was
    model.zero_grad(set_to_none=True)
    with torch.no_grad():  # a forward in train mode has moved BatchNorm's statistics
        for buffer, before in zip(model.buffers(), as_it_was.buffers(), strict=True):
            buffer.copy_(before)
    return model
