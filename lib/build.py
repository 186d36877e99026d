"""From a configuration to a run: the one place where names become objects."""

import contextlib
import copy
import math
import os
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor, nn

from lib.augment.pipeline import BatchMap, Normalize, Step, pipeline
from lib.augment.stage import Stage
from lib.batch import Batch
from lib.checkpoint import load, load_weights, weights_file
from lib.config import Config
from lib.data.base import Dataset, Split, data_root, fraction, hold_out
from lib.data.label_noise import mislabelled
from lib.data.long_tail import long_tailed
from lib.data.resident import Resident
from lib.errors import BadInput
from lib.log import Clock
from lib.optim.schedules import Schedule
from lib.rng import Rng
from lib.step import Average, LossScaler, Precision, Run, Stepper, autocast


def build(config: Config, device: torch.device, note: Callable[[str], None]) -> Run:
    """Everything that training needs, on its device.

    Args:
        note: called with a line that the user should see.
    """
    train = config.train
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)
    dataset = build_dataset(config)
    shape, num_classes = tuple(dataset.train.x.shape[1:]), len(dataset.classes)
    model = build_model(config, shape, num_classes)
    if train.init_from:
        path = weights_file(Path(train.init_from))
        load_weights(model, load(path)["model"], path)
    model.to(device, memory_format=torch.channels_last if train.channels_last else torch.preserve_format)

    data, splits = build_data(config, dataset, device)
    normalize = build_normalize(config, dataset, device)
    steps = build_steps(config, normalize)
    prepare = pipeline(steps)
    views = build_views(config)
    resizing = [step for step in steps if step.stage is Stage.RESIZE]
    batch = _try_out(model, pipeline(s for s in steps if s not in resizing), data, train.accumulate)
    _try_sizes(model, resizing, batch, math.ceil(train.epochs))
    try_views(views, data)

    if train.compile:
        _compile(model, normalize.pixels(data.at(0).x), train.precision, note)
    optimizer = _optimizer(config, model)
    return Run(
        model=model,
        data=data,
        prepare=prepare,
        loss=reduce(lambda loss, step: step.map.loss(loss), steps, config.chosen["loss"].build()),
        optimizer=optimizer,
        schedule=build_schedule(config),
        averages=build_averages(config, model),
        views=views,
        scaler=LossScaler(train.precision),
        epochs=train.epochs,
        seed=train.seed,
        precision=train.precision,
        accumulate=train.accumulate,
        clip=train.clip,
        clock=Clock(device),
        normalize=normalize.pixels,
        splits=splits,
    )


def build_device(name: str) -> torch.device:
    """The device that is asked for, or the best there is for `auto`."""
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(best if name == "auto" else name)
    except RuntimeError:
        raise BadInput(f"device {name!r} is none of auto, cpu, cuda, cuda:<number>, mps") from None
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not usable.get(device.type) or (device.index or 0) >= count:
        raise BadInput(f"device {name} is asked for, but this machine has {best} only; use --device {best}")
    return device


def build_dataset(config: Config) -> Dataset:
    return config.chosen["data"].build(root=data_root(config.data.root), offline=config.data.offline)


def build_data(config: Config, dataset: Dataset, device: torch.device) -> tuple[Resident, dict[str, Split]]:
    """The training batches, and what is evaluated: test, and val where a part of train is held out."""
    train, num_classes = config.train, len(dataset.classes)
    part, held_out = training_part(config, dataset.train, num_classes)
    splits = {"val": held_out} if config.data.val else {}
    splits["test"] = dataset.test
    data = Resident(part.to(device), num_classes, train.batch_size, train.seed)
    return data, {name: split.to(device) for name, split in splits.items()}


def training_part(config: Config, split: Split, num_classes: int) -> tuple[Split, Split]:
    """What is trained on, thinned out and with its wrong labels, and what is held out, which has neither."""
    data, mistaken = config.data, config.chosen["data"].entry.facts.get("mistaken")
    try:
        part, held_out = hold_out(split, data.val, num_classes)
        part = fraction(part, data.fraction)
        part = long_tailed(part, data.imbalance, num_classes)
        part = mislabelled(part, data.label_noise, data.noise_type, num_classes, mistaken)
    except ValueError as error:
        raise BadInput(f"data: {error}") from error
    return part, held_out


def build_model(config: Config, shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """The network for images of `shape` (C, H, W); its weights are a function of the seed."""
    channels, height, _ = shape
    Rng(config.train.seed, "init").seed_noise()
    return config.chosen["model"].build(num_classes=num_classes, in_channels=channels, image_size=height)


def build_averages(config: Config, model: nn.Module) -> dict[str, Average]:
    return {name: choice.build(model=model) for name, choice in config.tricks["average"].items()}


def build_views(config: Config) -> dict[str, Callable[..., nn.Module]]:
    return {name: choice.build for name, choice in config.tricks["views"].items()}


def build_schedule(config: Config) -> Schedule:
    """`(epoch, epochs) -> factor`, tried over the whole budget so that a bad point in time shows at once."""
    schedule = config.settings["schedule"](config.chosen["schedule"].build())
    epochs = config.train.epochs
    try:
        for tenth in range(10):
            schedule(epochs * tenth / 10, epochs)
    except ValueError as error:
        raise BadInput(f"schedule {config.chosen['schedule'].entry.name}: {error}") from error
    return schedule


def build_steps(config: Config, normalize: Normalize) -> list[Step]:
    """All that is done to a batch: the normalisation, and the augmentations that are on."""
    steps = [Step("normalize", Stage.NORMALIZE, normalize)]
    for name, choice in config.tricks["augment"].items():
        try:
            step = Step(name, choice.entry.facts["stage"], choice.build().within(config.train.epochs))
        except ValueError as error:
            raise BadInput(f"augmentation {name}: {error}") from error
        steps.append(step)
    return steps


def build_normalize(config: Config, dataset: Dataset, device: torch.device) -> Normalize:
    """The map of the NORMALIZE stage, with the data set's own statistics or the older ones."""
    mean, std = dataset.mean, dataset.std
    if config.data.normalize == "legacy":
        entry = config.chosen["data"].entry
        if "legacy" not in entry.facts:
            raise BadInput(f"data.normalize: {entry.name} has no legacy statistics; use --normalize standard")
        mean, std = entry.facts["legacy"]
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (mean, std))
    return Normalize(mean, std)


def _optimizer(config: Config, model: nn.Module) -> Stepper:
    """The base optimizer inside its wrappers, which stand in an order of their own."""
    optimizer = config.chosen["optim"].build(params=config.settings["optim"](model))
    wrappers = config.tricks["wrap"]
    climbing = [name for name, choice in wrappers.items() if choice.entry.facts.get("climbs")]
    if len(climbing) > 1:
        raise BadInput(
            f"{' and '.join(climbing)} are two ways to climb before the one step; choose one of them"
        )
    for choice in sorted(wrappers.values(), key=lambda choice: choice.entry.facts["order"]):
        optimizer = choice.build(base=optimizer, model=model)
    return optimizer


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
def _try_out(model: nn.Module, prepare: BatchMap, data: Resident, accumulate: int) -> Batch:
    """Refuse a trick or a model that cannot take these images, which nothing but a batch of them shows.

    Returns:
        The first of them, augmented: as many as the model was tried with.
    """
    batch = data.at(0)
    shape = tuple(batch.x.shape[1:])
    with augmenting(shape):
        batch = prepare(batch, Rng(0))
    # BatchNorm refuses a single image where its map is 1x1; two of them show all else.
    images = min(2, min(map(len, batch.split(accumulate))))
    batch = batch.take(slice(images))
    _try_forward(model, batch.x, f"images of {shape}")
    return batch


@torch.no_grad()
def _try_sizes(model: nn.Module, resizing: list[Step], batch: Batch, epochs: int) -> None:
    """Refuse a model that cannot take a size that its images have in some epoch."""
    names, resize, tried = " and ".join(step.name for step in resizing), pipeline(resizing), {batch.x.shape}
    for epoch in range(epochs if resizing else 0):
        x = resize(batch.replace(epoch=epoch), Rng(0)).x
        if x.shape not in tried:
            tried.add(x.shape)
            _try_forward(model, x, f"images of {tuple(x.shape[1:])} that {names} makes in epoch {epoch}")


def _try_forward(model: nn.Module, x: Tensor, images: str) -> None:
    trial = copy.deepcopy(model)  # a forward in train mode moves BatchNorm's statistics
    try:
        trial(x)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, AssertionError) as error:
        raise BadInput(f"the model cannot take {images}, {len(x)} at once: {error}") from error


@torch.no_grad()
def try_views(views: dict[str, Callable[..., nn.Module]], data: Resident) -> None:
    """Refuse views that these images do not have, rather than in the end of the run."""
    x = data.at(0).x[:1].float()
    for name, view in views.items():
        try:
            view(model=nn.Identity())(x)
        except (ValueError, RuntimeError) as error:
            raise BadInput(
                f"view {name}: images of {tuple(x.shape[1:])} have no such views: {error}"
            ) from error


def _compile(model: nn.Module, x: Tensor, precision: Precision, note: Callable[[str], None]) -> None:
    """Compile in place, or leave the model as it is and say why."""
    trial = copy.deepcopy(model)  # a forward in train mode moves BatchNorm's statistics
    trial.compile()
    try:
        with autocast(x.device, precision):
            trial(x).sum().backward()
    except Exception as error:  # Inductor fails in many ways: no compiler, an operator it does not know...
        note(f"compile: not used, {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        return
    model.compile()
