"""How a network learns: its loss, and its optimizer inside the wrappers."""

from functools import reduce

from torch import nn

from ..augment.pipeline import Step
from ..config.schema import Config
from ..core.batch import Loss
from ..core.errors import where
from ..engine.lr import OptimizerLike
from ..optim.param_groups import GroupOptions
from .model import in_order, only_one


def build_loss(config: Config, steps: list[Step]) -> Loss:
    """The loss, in the augmentations that change it, in the distillations."""
    loss = reduce(lambda loss, step: step.map.loss(loss), steps, config.chosen["loss"].build())
    # In the order of their names, whatever the order of the flags: one may weigh what stands before it.
    for _, choice in sorted(config.tricks["distill"].items()):
        loss = choice.build(base=loss, epochs=config.train.epochs)
    return loss


def build_optimizer(config: Config, model: nn.Module, total: int) -> OptimizerLike:
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
    only_one(wrappers, "perturbs", "perturb the weights before a step")
    for _, choice in in_order(wrappers):
        optimizer = choice.build(base=optimizer, model=model, total=total)
    return optimizer
