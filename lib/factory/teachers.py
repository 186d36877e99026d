"""The teachers of a distillation, loaded from run folders and checkpoints."""

import torch
from torch import nn

from ..augment.pipeline import Normalize
from ..config.schema import Config
from ..core.errors import BadInput
from ..core.registry import distillations
from ..data.base import Dataset
from ..engine.teacher import Renormalized
from ..store.checkpoint import Checkpoint
from .data import build_dataset, build_normalize
from .model import restore_model, to_device


def build_teachers(config: Config, dataset: Dataset, normalize: Normalize) -> list[nn.Module]:
    """The teachers of the distillations that are on; none if there are none."""
    on, given = config.tricks["distill"], config.settings["teachers"]
    if bool(on) != bool(given.teacher):
        raise BadInput(
            f"{' and '.join(on)} needs a teacher: give --teacher <run folder or checkpoint>"
            if on
            else f"--teacher {','.join(given.teacher)} has no effect: switch on one of "
            f"{', '.join(f'--{name}' for name in distillations.names())}, or give --teacher none"
        )
    return [_teacher(config, path, dataset, normalize) for path in given.teacher or ()]


def _teacher(config: Config, path: str, dataset: Dataset, here: Normalize) -> nn.Module:
    """The network of a run folder or checkpoint, for images that are normalised by `here`."""
    checkpoint = Checkpoint.read(path)
    mine, theirs = config.chosen["data"], checkpoint.config.chosen["data"]
    if theirs.entry.form != mine.entry.form:
        raise BadInput(
            f"--teacher {path} was trained on {theirs.entry.name}, but the data set here is "
            f"{mine.entry.name}; give a teacher of the same data set"
        )
    # Unless the shape is a fact of the data set, other options may mean other images.
    same = bool(mine.entry.facts.shape) or (mine.entry, mine.options) == (theirs.entry, theirs.options)
    learned = dataset if same else build_dataset(checkpoint.config)
    shape, expected = (d.train.shape for d in (learned, dataset))
    if shape != expected or learned.classes != dataset.classes:
        raise BadInput(
            f"--teacher {path} was trained on images of {shape} in {len(learned.classes)} classes, but here "
            f"they are of {expected} in {len(dataset.classes)}"
            f"{', of other names' if len(learned.classes) == len(dataset.classes) else ''}"
        )
    weights = config.settings["teachers"].teacher_weights
    model = restore_model(checkpoint.config, checkpoint, learned, weights)
    there = build_normalize(checkpoint.config, learned, here.mean.device)
    if not (torch.equal(here.mean, there.mean) and torch.equal(here.std, there.std)):
        model = Renormalized(model, here, there)
    return to_device(model.eval().requires_grad_(False), config, here.mean.device)
