"""The selection of the images a step learns from, with networks of their own."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from ..augment.pipeline import Step
from ..config.schema import Choice, Config
from ..core.errors import BadInput, where
from ..core.facts import InitOrder
from ..core.registry import models
from ..engine.selection import NetworkSelection
from ..graph.cost import Cost
from .learning import build_learning


def images_kept(config: Config) -> int:
    """Images that a step learns from: those of a batch that the selections keep."""
    kept = config.train.batch_size
    for name, choice in config.tricks["select"].items():
        with where(f"selection {name}"):
            kept = choice.build().kept(kept)
    return kept


def build_selections(
    config: Config,
    network: Callable[[Config], nn.Module],
    check: Callable[..., None],
    steps: list[Step],
    total: int,
) -> dict[str, NetworkSelection]:
    """The selections that are on.

    Args:
        network: returns a new network of a configuration.
        check: tries a network on the images of the run.
        steps: the augmentations, some of which change the loss.
        total: steps in the whole budget.
    """
    found = {}
    for name, choice in config.tricks["select"].items():
        selector = choice.build()
        try:
            its = network_config(config, selector.model)
            model = network(its)
            check(model, config.train.batch_size, name=selector.model)
            found[name] = NetworkSelection(selector, build_learning(its, model, steps, total, Cost(model)))
        except BadInput as error:
            raise BadInput(f"selection {name}: {error}") from error
    return found


def network_config(config: Config, name: str) -> Config:
    """The configuration of a network of that name, which a selection trains next to the run's own.

    It learns from the targets alone. If both models are of one file, it has the options of the run's, as the
    optimizer of a recipe may depend on them. Left out are the freezing of parts, which it may not
    have, and what changes a network or its initial weights, except for weights computed from data.
    """
    mine, entry = config.chosen["model"], models[name]
    common = mine.options if entry.module == mine.entry.module else {}
    options = {key: common.get(key, field.default) for key, field in entry.fields.items()}
    init = {name: c for name, c in config.tricks["init"].items() if c.entry.facts.order is InitOrder.DATA}
    optim = replace(config.settings["optim"], stem_epochs=None, stem_falls=False)
    train = replace(config.train, freeze=None)
    return replace(
        config,
        chosen=config.chosen | {"model": Choice(models.kind, entry, options)},
        tricks=config.tricks | {"surgery": {}, "init": init, "distill": {}},
        settings=config.settings | {"optim": optim, "train": train},
    )
