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
from lib.batch import Batch, Loss
from lib.checkpoint import load, load_weights, weights_file
from lib.config import Config
from lib.data.base import Dataset, Split, data_root, fraction, hold_out
from lib.data.label_noise import mislabelled
from lib.data.long_tail import long_tailed
from lib.data.resident import Resident
from lib.errors import BadInput
from lib.log import Clock
from lib.optim.schedules import Schedule
from lib.registry import distillations
from lib.rng import Rng
from lib.saved import saved
from lib.step import LossScaler, Precision, Run, Stepper, autocast
from lib.teacher import Renormalized, Teach


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
    steps = [*build_steps(config, normalize), *_teachers(config, dataset, normalize)]
    prepare = pipeline(steps)
    views = {name: choice.build for name, choice in config.tricks["views"].items()}
    resizing = [step for step in steps if step.stage is Stage.RESIZE]
    batch = _try_out(model, pipeline(s for s in steps if s not in resizing), data, train.accumulate)
    _try_sizes(model, resizing, batch, math.ceil(train.epochs))
    _try_views(views, data)

    if train.compile:
        _compile(model, normalize.pixels(data.at(0).x), train.precision, note)
    optimizer = _optimizer(config, model)
    run = Run(
        model=model,
        data=data,
        prepare=prepare,
        loss=_loss(config, steps),
        optimizer=optimizer,
        schedule=build_schedule(config),
        averages={},
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
    time = {"steps_per_epoch": data.steps_per_epoch, "total": run.total}
    run.averages = {
        name: choice.build(model=model, **time) for name, choice in config.tricks["average"].items()
    }
    return run


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
    part, splits = build_splits(config, dataset)
    data = Resident(part.to(device), len(dataset.classes), config.train.batch_size, config.train.seed)
    return data, {name: split.to(device) for name, split in splits.items()}


def build_splits(config: Config, dataset: Dataset) -> tuple[Split, dict[str, Split]]:
    """The images to train on, and those to evaluate: the test part, and one that is held out if so asked."""
    part, held_out = training_part(config, dataset.train, len(dataset.classes))
    return part, ({"val": held_out} if config.data.val else {}) | {"test": dataset.test}


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


def _loss(config: Config, steps: list[Step]) -> Loss:
    """The loss, in the augmentations that change it, in the distillations."""
    loss = reduce(lambda loss, step: step.map.loss(loss), steps, config.chosen["loss"].build())
    # In the order of their names, whatever the order of the flags: one may weigh what stands before it.
    for _, choice in sorted(config.tricks["distill"].items()):
        loss = choice.build()(loss, config.train.epochs)
    return loss


def _teachers(config: Config, dataset: Dataset, normalize: Normalize) -> list[Step]:
    """The step in which the teachers add their logits, where a distillation is on."""
    asked, given = config.tricks["distill"], config.settings["teachers"]
    if bool(asked) != bool(given.teacher):
        raise BadInput(
            f"{' and '.join(asked)} needs a teacher: give --teacher <run folder or checkpoint>"
            if asked
            else f"--teacher {','.join(given.teacher)} has nothing to do: switch on one of "
            f"{', '.join(f'--{name}' for name in distillations.names())}, or give --teacher none"
        )
    models = [_teacher(config, path, dataset, normalize) for path in given.teacher or ()]
    teach = Teach(models=models, precision=config.train.precision)
    return [Step("teacher", Stage.TEACH, teach)] if models else []


def _teacher(config: Config, path: str, dataset: Dataset, here: Normalize) -> nn.Module:
    """The network in a run folder or checkpoint, for images that are normalised as `here`."""
    source = saved(path, config.settings["teachers"].teacher_weights)
    mine, theirs = config.chosen["data"], source.config.chosen["data"]
    if theirs.entry.form != mine.entry.form:
        raise BadInput(
            f"--teacher {path} has learned {theirs.entry.name}, but the data here are {mine.entry.name}; "
            "give a teacher of the same data"
        )
    # Where the facts do not tell, other options may mean other images.
    same = "shape" in mine.entry.facts or (mine.entry, mine.options) == (theirs.entry, theirs.options)
    learned = dataset if same else build_dataset(source.config)
    shape, expected = (tuple(d.train.x.shape[1:]) for d in (learned, dataset))
    if shape != expected or learned.classes != dataset.classes:
        raise BadInput(
            f"--teacher {path} has learned images of {shape} in {len(learned.classes)} classes, but here "
            f"they are of {expected} in {len(dataset.classes)}"
            f"{', of other names' if len(learned.classes) == len(dataset.classes) else ''}"
        )
    model = build_model(source.config, shape, len(dataset.classes))
    load_weights(model, source.weights, source.path)
    there = build_normalize(source.config, learned, here.mean.device)
    if not (torch.equal(here.mean, there.mean) and torch.equal(here.std, there.std)):
        model = Renormalized(model, here, there)
    layout = torch.channels_last if config.train.channels_last else torch.preserve_format
    return model.eval().requires_grad_(False).to(here.mean.device, memory_format=layout)


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
def _try_views(views: dict[str, Callable[..., nn.Module]], data: Resident) -> None:
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
