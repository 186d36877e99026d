"""The whole of a run, from its configuration."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..augment.pipeline import Normalize, Shard, Step, pipeline
from ..config.schema import Config
from ..core.budget import in_steps
from ..core.dist import SINGLE, World
from ..core.errors import where
from ..core.facts import Stage
from ..data.base import Dataset, DataSpec
from ..engine.log import Clock
from ..engine.step import Run
from ..engine.teacher import Teach
from ..graph.cost import Cost
from ..optim.average import WeightAverage
from ..optim.schedules import Schedule
from ..store.checkpoint import file_of
from .checks import NetworkCheck, ineffective_splits, try_views
from .data import build_data, build_dataset, build_normalize, build_spec, data_notes, training_sample
from .device import check_world, process_of
from .finetune import load_initial_weights
from .learning import build_learning
from .model import build_model, share_weights, to_device, untrained
from .selections import build_selections, images_kept
from .teachers import build_teachers, check_teachers


def build(
    config: Config,
    device: torch.device,
    note: Callable[[str], None],
    world: World = SINGLE,
    get_dataset: Callable[[Config], Dataset] = build_dataset,
) -> Run:
    """Everything that training needs, on its device.

    Args:
        note: called with a line that the user should see.
        world: the processes that train together.
        get_dataset: returns the data set; `build_stand_in` for a run that is only built.
    """
    with process_of(config):
        check_config(config, world)
        dataset = world.local_main_first(lambda: get_dataset(config))
        return _build(config, device, note, world, dataset)


def check_config(config: Config, world: World = SINGLE) -> None:
    """Refuse what is wrong whatever the data are, before they are read or downloaded."""
    check_world(config, world)
    check_teachers(config)
    if config.train.init_from:
        file_of(config.train.init_from)
    build_schedule(config)
    build_augmentations(config)


def _build(
    config: Config, device: torch.device, note: Callable[[str], None], world: World, dataset: Dataset
) -> Run:
    train = config.train
    data, splits = build_data(config, dataset, device, world)
    total = in_steps(train.epochs, data.steps_per_epoch)
    views = build_views(config)
    spec = build_spec(config, dataset)
    try_views(views, spec.shape, device)

    normalize = build_normalize(spec, device)
    teachers = build_teachers(config, spec, normalize)
    steps = build_steps(config, normalize)
    finalize = pipeline(build_final_steps(config, teachers, world))

    sample = partial(training_sample, normalize, data.split)
    network = partial(build_network, spec=spec, sample=sample, device=device)
    model = network(config)
    load_initial_weights(config, model, spec, untrained(config), note)
    share_weights(config, model, world)

    for line in (*data_notes(config, dataset), *ineffective_splits(config)):
        note(line)
    check = NetworkCheck(data, steps, train.epochs)
    check(model, images_kept(config), train.accumulate, finalize)

    cost = Cost(model, teachers)
    return Run(
        learning=build_learning(config, model, steps, total, cost, train.accumulate, world),
        data=data,
        prepare=pipeline(steps),
        finalize=finalize,
        schedule=build_schedule(config),
        averages=build_averages(config, model, data.steps_per_epoch, total),
        views=views,
        epochs=train.epochs,
        seed=train.seed,
        precision=train.precision,
        clip=train.clip,
        clock=Clock(device),
        spec=spec,
        normalize=normalize.pixels,
        splits=splits,
        selections=build_selections(config, network, check, steps, total),
    )


def build_network(
    config: Config, spec: DataSpec, sample: Callable[[], Tensor], device: torch.device
) -> nn.Module:
    """A network for these data, with initial weights, on its device."""
    return to_device(build_model(config, spec.shape, len(spec.classes), sample), config, device)


def build_averages(
    config: Config, model: nn.Module, steps_per_epoch: int, total: int
) -> dict[str, WeightAverage]:
    """The averages of the model's weights over `total` steps."""
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
    """All that is done to a batch in every process: the normalization, and the augmentations that are on."""
    return [Step("normalize", Stage.NORMALIZE, normalize), *build_augmentations(config)]


def build_augmentations(config: Config) -> list[Step]:
    """The augmentations that are on."""
    steps = []
    for name, choice in config.tricks["augment"].items():
        with where(f"augmentation {name}"):
            step = Step(name, choice.entry.facts.stage, choice.build().within(config.train.epochs))
        steps.append(step)
    return steps


def build_final_steps(config: Config, teachers: Sequence[nn.Module], world: World) -> list[Step]:
    """What is done to a batch after selection: it is sharded across processes, and the teachers see it."""
    steps = []
    if world.size > 1:
        steps.append(Step("shard", Stage.SHARD, Shard(rank=world.rank, size=world.size)))
    if teachers:
        steps.append(Step("teacher", Stage.TEACH, Teach(models=teachers, precision=config.train.precision)))
    return steps
