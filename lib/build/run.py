"""The whole of a run, from its configuration."""

import math
import os
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import torch
from torch import nn

from lib.augment.pipeline import Normalize, Share, Step, pipeline
from lib.augment.stage import Stage
from lib.batch import Loss
from lib.build.data import build_data, build_dataset, build_normalize, streaming, training_sample
from lib.build.model import build_model, in_order, only_one
from lib.build.teachers import build_teachers
from lib.build.trial import compile_model, try_out, try_sizes, try_views
from lib.checkpoint import load, load_weights, weights_file
from lib.config import Config
from lib.cost import Cost
from lib.data.base import Dataset
from lib.dist import ALONE, World
from lib.errors import BadInput
from lib.log import Clock
from lib.optim.schedules import Schedule
from lib.step import Average, LossScaler, Run, Stepper
from lib.surgery.sync_batchnorm import synchronise
from lib.teacher import Teach


def build(
    config: Config,
    device: torch.device,
    note: Callable[[str], None],
    world: World = ALONE,
    dataset: Dataset | None = None,
) -> Run:
    """Everything that training needs, on its device.

    Args:
        note: called with a line that the user should see.
        world: the processes that train together.
        dataset: the data, where they have been read already.
    """
    train = config.train
    check_world(config, world)
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)
    dataset = dataset or world.in_turn(lambda: build_dataset(config))
    data, splits = build_data(config, dataset, device, world)
    shape, num_classes = dataset.train.shape, len(dataset.classes)
    model = build_model(config, shape, num_classes, lambda: training_sample(config, dataset, data.split))
    if train.init_from:
        path = weights_file(Path(train.init_from))
        load_weights(model, load(path)["model"], path)
        if names := ", ".join(config.tricks["init"]):
            note(f"the weights of train.init_from take the place of what init drew: {names}")
    for line in (*streaming(config, dataset), *_unsplit(config)):
        note(line)
    model.to(device, memory_format=torch.channels_last if train.channels_last else torch.preserve_format)

    if world.size > 1:
        world.align(list(model.state_dict().values()))  # other hardware may round initial weights differently
        if train.sync_bn:
            synchronise(model, world)

    normalize = build_normalize(config, dataset, device)
    teachers = build_teachers(config, dataset, normalize)
    steps = build_steps(config, normalize)
    if world.size > 1:
        steps.append(Step("share", Stage.SHARE, Share(rank=world.rank, size=world.size)))
    if teachers:
        steps.append(Step("teacher", Stage.TEACH, Teach(models=teachers, precision=train.precision)))
    prepare = pipeline(steps)
    views = build_views(config)
    resizing = [step for step in steps if step.stage is Stage.RESIZE]
    batch = try_out(model, pipeline(s for s in steps if s not in resizing), data, train.accumulate)
    try_sizes(model, resizing, batch, math.ceil(train.epochs))
    try_views(views, data)

    if train.compile:
        compile_model(
            model, normalize.pixels(next(data.split.read([slice(train.batch_size)]))), train.precision, note
        )
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
        cost=Cost(model, teachers),
        normalize=normalize.pixels,
        splits=splits,
        world=world,
    )
    run.averages = build_averages(config, model, data.steps_per_epoch, run.total)
    return run


def _unsplit(config: Config) -> list[str]:
    """What splits a micro-batch into parts that are no smaller than it, and so changes nothing."""
    images = config.train.batch_size // config.train.accumulate
    found = []
    for name, choice in config.tricks["surgery"].items():
        field = choice.entry.facts.get("splits")
        if field and images < 2 * (size := choice.options[field]):
            found.append(
                f"{name} changes nothing: a micro-batch has {images} images, and its parts at least {size}; "
                f"give a --{name}-{field} of at most {images // 2}".replace("_", "-")
            )
    return found


def build_averages(config: Config, model: nn.Module, steps_per_epoch: int, total: int) -> dict[str, Average]:
    """The averages that watch the model over `total` steps."""
    time = {"steps_per_epoch": steps_per_epoch, "total": total}
    return {name: choice.build(model=model, **time) for name, choice in config.tricks["average"].items()}


def build_views(config: Config) -> dict[str, Callable[..., nn.Module]]:
    """By name, what takes `(model=...)` to test-time views of it."""
    return {name: choice.build for name, choice in config.tricks["views"].items()}


def check_world(config: Config, world: World) -> None:
    """Refuse what so many processes cannot do together."""
    train, images = config.train, f"a batch of {config.train.batch_size} images"
    if train.batch_size < world.size:
        raise BadInput(f"{images} cannot be shared by {world.size} processes; give a larger --batch-size")
    if train.sync_bn and train.batch_size % world.size:
        # A process with fewer images may have fewer micro-batches, and the others would wait for it.
        raise BadInput(
            f"train.sync_bn: {images} cannot be shared equally by {world.size} processes; "
            "give a --batch-size that is a multiple"
        )
    if train.sync_bn and train.compile and world.size > 1:
        raise BadInput("train.sync_bn sends messages from within the model, which train.compile cannot take")


def build_device(name: str, world: World = ALONE) -> torch.device:
    """The device that is asked for, or the best there is for `auto`; for several processes one each."""
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(best if name == "auto" else name)
    except RuntimeError:
        raise BadInput(f"device {name!r} is none of auto, cpu, cuda, cuda:<number>, mps") from None
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not usable.get(device.type) or (device.index or 0) >= count:
        raise BadInput(f"device {name} is asked for, but this machine has {best} only; use --device {best}")
    if world.size == 1 or device.type == "cpu":
        return device
    if device.type == "mps" or device.index is not None:
        raise BadInput(
            f"{world.size} processes cannot share {device}; use --device cpu, or cuda for a GPU each"
        )
    if world.local_size > count:
        raise BadInput(
            f"torchrun starts {world.local_size} processes on a machine of {count} GPUs, and each needs one "
            f"of its own; use --nproc-per-node {count}"
        )
    return torch.device("cuda", world.local_rank)


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


def _loss(config: Config, steps: list[Step]) -> Loss:
    """The loss, in the augmentations that change it, in the distillations."""
    loss = reduce(lambda loss, step: step.map.loss(loss), steps, config.chosen["loss"].build())
    # In the order of their names, whatever the order of the flags: one may weigh what stands before it.
    for _, choice in sorted(config.tricks["distill"].items()):
        loss = choice.build()(loss, config.train.epochs)
    return loss


def _optimizer(config: Config, model: nn.Module) -> Stepper:
    """The base optimizer inside its wrappers, which stand in an order of their own."""
    try:
        groups = config.settings["optim"](model)
    except ValueError as error:
        raise BadInput(f"optim: {error}") from error
    optimizer = config.chosen["optim"].build(params=groups)
    for group in optimizer.param_groups:
        if "decay_scale" in group:
            group["weight_decay"] *= group["decay_scale"]
    wrappers = config.tricks["wrap"]
    only_one(wrappers, "climbs", "climb before the one step")
    for _, choice in in_order(wrappers, "order"):
        optimizer = choice.build(base=optimizer, model=model)
    return optimizer
