"""From a configuration to a run: the one place where names become objects."""

import copy
import os
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path

import torch
from torch import Tensor, nn

from lib.augment.pipeline import BatchMap, Normalize, Step, pipeline
from lib.augment.stage import Stage
from lib.checkpoint import load, load_weights, weights_file
from lib.config import Choice, Config
from lib.data.base import Dataset, Split, data_root, fraction, hold_out
from lib.data.resident import Resident
from lib.errors import BadInput
from lib.log import Clock
from lib.optim.schedules import Schedule
from lib.rng import Rng
from lib.step import LossScaler, Precision, Run, Stepper, autocast

SAMPLE = 5_000 * 3 * 32 * 32  # numbers in the images that initial weights may depend on
NOISE = 64  # images of noise that stand in for them where nothing is trained


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
    try:
        part, held_out = hold_out(dataset.train, config.data.val, num_classes)
        part = fraction(part, config.data.fraction)
    except ValueError as error:
        raise BadInput(f"data: {error}") from error
    splits = {"val": held_out} if config.data.val else {}
    splits["test"] = dataset.test

    model = build_model(config, shape, num_classes, lambda: _sample(config, dataset, part))
    if train.init_from:
        path = weights_file(Path(train.init_from))
        load_weights(model, load(path)["model"], path)
        if names := ", ".join(config.tricks["init"]):
            note(f"the weights of train.init_from take the place of what init drew: {names}")
    model.to(device, memory_format=torch.channels_last if train.channels_last else torch.preserve_format)

    data = Resident(part.to(device), num_classes, train.batch_size, train.seed)
    normalize = _normalize(config, dataset, device)
    augmentations = _augmentations(config)
    prepare = pipeline([Step("normalize", Stage.NORMALIZE, normalize), *augmentations])
    _try_out(model, prepare, data, train.accumulate)

    if train.compile:
        _compile(model, normalize.pixels(data.at(0).x), train.precision, note)
    optimizer = _optimizer(config, model)
    return Run(
        model=model,
        data=data,
        prepare=prepare,
        loss=reduce(lambda loss, step: step.map.loss(loss), augmentations, config.chosen["loss"].build()),
        optimizer=optimizer,
        schedule=build_schedule(config),
        averages={name: choice.build(model=model) for name, choice in config.tricks["average"].items()},
        views={name: choice.build for name, choice in config.tricks["views"].items()},
        scaler=LossScaler(train.precision),
        epochs=train.epochs,
        seed=train.seed,
        precision=train.precision,
        accumulate=train.accumulate,
        clip=train.clip,
        clock=Clock(device),
        normalize=normalize.pixels,
        splits={name: split.to(device) for name, split in splits.items()},
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


def build_model(
    config: Config,
    shape: tuple[int, int, int],
    num_classes: int,
    images: Callable[[], Tensor] | None = None,
) -> nn.Module:
    """The network for images of `shape` (C, H, W), with its surgery; its weights are a function of the seed.

    Args:
        images: gives normalised training images for the initial weights; none for a network that is only
            looked at, to which noise will do.
    """
    channels, height, _ = shape
    init = Rng(config.train.seed, "init")
    init.seed_noise()
    model = config.chosen["model"].build(num_classes=num_classes, in_channels=channels, image_size=height)
    for name, choice in _in_order(config.tricks["surgery"], "order"):
        init.fold(name).seed_noise()
        model = _operate(config, choice, model, shape)
    _only_one(config.tricks["init"], "draws", "draw all weights")
    noise = partial(init.fold("images").uniform, NOISE, *shape, like=torch.empty(0))
    for name, choice in _in_order(config.tricks["init"], "turn"):
        init.fold(name).seed_noise()
        model = choice.build(model=model, shape=shape, images=images or noise)
    return model


def _operate(config: Config, choice: Choice, model: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """The model after one surgery; a refusal names the option that the model has for the same."""
    try:
        return choice.build(model=model, shape=shape)
    except BadInput as error:
        options, facts = config.chosen["model"].options, choice.entry.facts
        own = [f"--model.{name.replace('_', '-')}" for name in facts.get("own", ()) if name in options]
        hint = f"; it has an option of its own, {own[0]}" if own else ""
        raise BadInput(f"{error}{hint}") from error


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


def _in_order(choices: dict[str, Choice], fact: str) -> list[tuple[str, Choice]]:
    """The tricks in the order that a fact of each decides, whatever that of the flags."""
    return sorted(choices.items(), key=lambda item: (item[1].entry.facts[fact], item[0]))


def _only_one(choices: dict[str, Choice], fact: str, what: str) -> None:
    """Refuse two tricks that are alternatives."""
    names = [name for name, choice in choices.items() if choice.entry.facts.get(fact)]
    if len(names) > 1:
        raise BadInput(f"{' and '.join(names)} are two ways to {what}; choose one of them")


def _sample(config: Config, dataset: Dataset, part: Split) -> Tensor:
    """Normalised training images from all over the set, as many as have the pixels of 5,000 of CIFAR."""
    count = min(len(part), max(1, SAMPLE // part.x[0].numel()))
    x = part.x[:: len(part) // count][:count]
    return _normalize(config, dataset, x.device).pixels(x).cpu()


def _augmentations(config: Config) -> list[Step]:
    return [
        Step(name, choice.entry.facts["stage"], choice.build())
        for name, choice in config.tricks["augment"].items()
    ]


def _normalize(config: Config, dataset: Dataset, device: torch.device) -> Normalize:
    mean, std = dataset.mean, dataset.std
    if config.data.normalize == "legacy":
        entry = config.chosen["data"].entry
        if "legacy" not in entry.facts:
            raise BadInput(f"data.normalize: {entry.name} has no legacy statistics; use --normalize standard")
        mean, std = entry.facts["legacy"]
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (mean, std))
    return Normalize(mean, std)


def _optimizer(config: Config, model: nn.Module) -> Stepper:
    """The base optimizer inside its wrappers."""
    optimizer = config.chosen["optim"].build(params=config.settings["optim"](model))
    wrappers = config.tricks["wrap"]
    _only_one(wrappers, "climbs", "climb before the one step")
    for choice in wrappers.values():
        optimizer = choice.build(base=optimizer, model=model)
    return optimizer


@torch.no_grad()
def _try_out(model: nn.Module, prepare: BatchMap, data: Resident, accumulate: int) -> None:
    """Refuse a trick or a model that cannot take these images, which nothing but a batch of them shows."""
    batch = data.at(0)
    shape = tuple(batch.x.shape[1:])
    try:
        batch = prepare(batch, Rng(0))
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, OverflowError) as error:
        raise BadInput(f"augment: images of {shape} cannot be augmented so: {error}") from error
    # BatchNorm refuses a single image where its map is 1x1; two of them show all else.
    images = min(2, min(map(len, batch.split(accumulate))))
    trial = copy.deepcopy(model)  # a forward in train mode moves BatchNorm's statistics
    try:
        trial(batch.x[:images])
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"the model cannot take images of {shape}, {images} at once: {error}") from error


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
