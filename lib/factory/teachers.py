"""The teachers of a distillation, from run folders and checkpoints."""

import torch
from torch import nn

from ..augment.pipeline import Normalize
from ..config.schema import Config
from ..core.errors import BadInput
from ..core.registry import distillations
from ..data.base import Dataset
from ..engine.teacher import Renormalized
from ..store.checkpoint import load_weights
from ..store.saved_run import saved
from .data import build_dataset, build_normalize
from .model import build_model


def build_teachers(config: Config, dataset: Dataset, normalize: Normalize) -> list[nn.Module]:
    """The networks whose logits a distillation learns from, where one is on."""
    asked, given = config.tricks["distill"], config.settings["teachers"]
    if bool(asked) != bool(given.teacher):
        raise BadInput(
            f"{' and '.join(asked)} needs a teacher: give --teacher <run folder or checkpoint>"
            if asked
            else f"--teacher {','.join(given.teacher)} has nothing to do: switch on one of "
            f"{', '.join(f'--{name}' for name in distillations.names())}, or give --teacher none"
        )
    return [_teacher(config, path, dataset, normalize) for path in given.teacher or ()]


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
    same = bool(mine.entry.facts.shape) or (mine.entry, mine.options) == (theirs.entry, theirs.options)
    learned = dataset if same else build_dataset(source.config)
    shape, expected = (d.train.shape for d in (learned, dataset))
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
