"""How a network learns: its loss, and its optimizer inside the wrappers."""

from functools import reduce

from torch import nn
from torch.optim import Optimizer

from ..augment.pipeline import Step
from ..config.schema import Config
from ..core.batch import Loss
from ..core.dist import SINGLE, World
from ..core.errors import where
from ..core.precision import LossScaler
from ..engine.step import Learning
from ..graph.cost import Cost
from ..optim.param_groups import GroupOptions
from .model import exclusive, in_order


def build_learning(
    config: Config,
    model: nn.Module,
    steps: list[Step],
    total: int,
    cost: Cost,
    accumulate: int = 1,
    world: World = SINGLE,
) -> Learning:
    """A network with its loss and its optimizer.

    Args:
        steps: the augmentations, some of which change the loss.
        total: steps in the whole budget.
        accumulate: micro-batches of a step.
        world: the processes that share a batch.
    """
    loss, optimizer = build_loss(config, steps), build_optimizer(config, model, total)
    return Learning(model, loss, optimizer, LossScaler(config.train.precision), cost, accumulate, world)


def build_loss(config: Config, steps: list[Step]) -> Loss:
    """The loss, inside the augmentations that change it, inside the distillations."""
    loss = reduce(lambda loss, step: step.map.loss(loss), steps, config.chosen["loss"].build())
    # By name, whatever the order of the flags: each distillation may weight the loss inside it.
    for _, choice in sorted(config.tricks["distill"].items()):
        loss = choice.build(base=loss, epochs=config.train.epochs)
    return loss


def build_optimizer(config: Config, model: nn.Module, total: int) -> Optimizer:
    """The base optimizer inside its wrappers, in the order that their facts give.

    Args:
        total: steps in the whole budget.
    """
    with where("optim"):
        groups = config.settings["optim"](model)
    optimizer = config.chosen["optim"].build(params=groups)
    for group in optimizer.param_groups:
        if (scale := GroupOptions.of(group).decay_scale) != 1:
            group["weight_decay"] *= scale
    wrappers = config.tricks["wrap"]
    exclusive(wrappers, "perturbs", "perturb the weights before a step")
    for _, choice in in_order(wrappers):
        optimizer = choice.build(base=optimizer, model=model, total=total)
    return optimizer
