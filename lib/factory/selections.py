"""What picks the images that a step learns from, and how a network that does learns itself."""

from collections.abc import Callable
from dataclasses import replace

from ..config.schema import Choice, Config
from ..core.errors import BadInput, where
from ..core.facts import InitOrder
from ..core.registry import models
from ..engine.step import Selector
from ..select.learner import Learner


def build_selections(config: Config, learner: Callable[[str], Learner]) -> dict[str, Selector]:
    """The selections that are on.

    Args:
        learner: gives the network of a name, as `beside` configures it.
    """

    def fitting(name: str) -> Learner:
        try:
            return learner(name)
        except BadInput as error:  # then the selection is at fault, and says so
            raise ValueError(str(error)) from error

    return {name: choice.build(learner=fitting) for name, choice in config.tricks["select"].items()}


def images_kept(config: Config) -> int:
    """Images that a step learns from: of a batch, what the selections keep."""
    kept = config.train.batch_size
    # Nothing is looked at here, so nobody has to learn.
    for name, selection in build_selections(config, learner=lambda name: None).items():
        with where(f"selection {name}"):
            kept = selection.kept(kept)
    return kept


def beside(config: Config, name: str) -> Config:
    """The configuration of a network of that name that learns beside the run's own, from the targets alone.

    A model of the same file has the same options, for a recipe's optimizer may depend on them. In its first
    block there may be nothing to freeze in time, so that is left out; and so is what changes a network or its
    initial weights, but for the weights that are the data's.
    """
    mine, entry = config.chosen["model"], models[name]
    common = mine.options if entry.module == mine.entry.module else {}
    options = {key: common.get(key, field.default) for key, field in entry.fields.items()}
    drawn = {name: c for name, c in config.tricks["init"].items() if c.entry.facts.order is InitOrder.DATA}
    optim = replace(config.settings["optim"], stem_epochs=None, stem_falls=False)
    return replace(
        config,
        chosen=config.chosen | {"model": Choice(models.kind, entry, options)},
        tricks=config.tricks | {"surgery": {}, "init": drawn, "distill": {}},
        settings=config.settings | {"optim": optim},
    )
