"""The whole of a run, from its configuration."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ..augment.pipeline import BatchMap, Normalize, Share, Step, pipeline
from ..config.schema import Config
from ..core.batch import Batch
from ..core.budget import in_steps
from ..core.dist import SINGLE, World
from ..core.errors import where
from ..core.facts import Stage
from ..core.precision import LossScaler
from ..core.rng import Rng
from ..data.base import Dataset
from ..engine.log import Clock
from ..engine.step import Average, Run
from ..engine.teacher import Teach
from ..graph.cost import Cost
from ..optim.schedules import Schedule
from ..select.learner import Learner
from ..store.checkpoint import load, load_weights, weights_file
from ..surgery.sync_batchnorm import synchronise
from .backend import check_world
from .data import build_data, build_dataset, build_normalize, streaming, training_sample
from .learning import build_loss, build_optimizer
from .model import build_model
from .selections import beside, build_selections, images_kept
from .teachers import build_teachers
from .trial import compiled, try_out, try_sizes, try_views


def build(
    config: Config,
    device: torch.device,
    note: Callable[[str], None],
    world: World = SINGLE,
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
    # On a GPU the fastest convolutions are found by trying, for shapes hardly change; not always the same.
    torch.backends.cudnn.benchmark = not train.deterministic
    dataset = dataset or world.in_turn(lambda: build_dataset(config))
    data, splits = build_data(config, dataset, device, world)
    shape, num_classes = dataset.train.shape, len(dataset.classes)
    layout = torch.channels_last if train.channels_last else torch.preserve_format
    sample = partial(training_sample, config, dataset, data.split)
    model = build_model(config, shape, num_classes, sample)
    if train.init_from:
        path = weights_file(Path(train.init_from))
        load_weights(model, load(path)["model"], path)
        if names := ", ".join(config.tricks["init"]):
            note(f"the weights of train.init_from take the place of what init drew: {names}")
    for line in (*streaming(config, dataset), *_unsplit(config)):
        note(line)
    model.to(device, memory_format=layout)

    if world.size > 1:
        world.broadcast(
            list(model.state_dict().values())
        )  # other hardware may round initial weights differently
        if train.sync_bn:
            synchronise(model, world)

    normalize = build_normalize(config, dataset, device)
    teachers = build_teachers(config, dataset, normalize)
    steps, dealing = build_steps(config, normalize), []
    if world.size > 1:
        dealing.append(Step("share", Stage.SHARD, Share(rank=world.rank, size=world.size)))
    if teachers:
        dealing.append(Step("teacher", Stage.TEACH, Teach(models=teachers, precision=train.precision)))
    resizing = [step for step in steps if step.stage is Stage.RESIZE]
    unresized, deal = pipeline(step for step in steps if step not in resizing), pipeline(dealing)
    views, kept = build_views(config), images_kept(config)
    total = in_steps(train.epochs, data.steps_per_epoch)
    try_views(views, data)

    def settled(model: nn.Module, prepare: BatchMap, images: int, parts: int, name: str) -> nn.Module:
        batch = try_out(model, prepare, data, parts, name)
        try_sizes(model, resizing, batch, train.epochs, name)
        if not train.compile:
            return model
        count = -(-images * batch.views // parts)
        return compiled(model, batch.x[:1].repeat(count, 1, 1, 1), train.compile_mode, train.precision, note)

    def picked(batch: Batch, rng: Rng) -> Batch:  # the first images stand in for those that will be picked
        batch = unresized(batch, rng)
        return deal(batch.take(slice(kept * batch.views)), rng)

    def learner(name: str) -> Learner:
        its = beside(config, name)
        model = build_model(its, shape, num_classes, sample).to(device, memory_format=layout)
        model = settled(model, unresized, train.batch_size, 1, name)
        how = build_loss(its, steps), build_optimizer(its, model, total), LossScaler(train.precision)
        return Learner(model, *how, cost.beside(model))

    model = settled(model, picked, -(-kept // world.size), train.accumulate, "the model")
    cost = Cost(model, teachers)
    run = Run(
        model=model,
        data=data,
        prepare=pipeline(steps),
        selections=build_selections(config, learner),
        deal=deal,
        loss=build_loss(config, steps),
        optimizer=build_optimizer(config, model, total),
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
        cost=cost,
        normalize=normalize.pixels,
        splits=splits,
        world=world,
    )
    run.averages = build_averages(config, model, data.steps_per_epoch, total)
    return run


def _unsplit(config: Config) -> list[str]:
    """What splits a micro-batch into parts that are no smaller than it, and so changes nothing."""
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


def build_averages(config: Config, model: nn.Module, steps_per_epoch: int, total: int) -> dict[str, Average]:
    """The averages that watch the model over `total` steps."""
    time = {"steps_per_epoch": steps_per_epoch, "total": total}
    return {name: choice.build(model=model, **time) for name, choice in config.tricks["average"].items()}


def build_views(config: Config) -> dict[str, Callable[..., nn.Module]]:
    """By name, what takes `(model=...)` to test-time views of it."""
    return {name: choice.build for name, choice in config.tricks["views"].items()}


def build_schedule(config: Config) -> Schedule:
    """`(epoch, epochs) -> factor`, tried over the whole budget so that a bad point in time shows at once."""
    schedule = config.settings["schedule"](config.chosen["schedule"].build())
    epochs = config.train.epochs
    with where(f"schedule {config.chosen['schedule'].entry.name}"):
        for tenth in range(10):
            schedule(epochs * tenth / 10, epochs)
    return schedule


def build_steps(config: Config, normalize: Normalize) -> list[Step]:
    """All that is done to a batch: the normalisation, and the augmentations that are on."""
    steps = [Step("normalize", Stage.NORMALIZE, normalize)]
    for name, choice in config.tricks["augment"].items():
        with where(f"augmentation {name}"):
            step = Step(name, choice.entry.facts.stage, choice.build().within(config.train.epochs))
        steps.append(step)
    return steps
