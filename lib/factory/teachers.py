"""The teachers of a distillation, loaded from run folders and checkpoints."""

import torch
from torch import nn

from ..augment.pipeline import Normalize
from ..config.schema import Config
from ..core.errors import BadInput
from ..core.registry import distillations
from ..data.base import DataSpec
from ..engine.teacher import Renormalized
from ..store.checkpoint import Checkpoint, file_of
from .data import build_normalize, learned_data
from .model import restore_model, to_device


def check_teachers(config: Config) -> None:
    """Refuse a distillation without a teacher that exists, and a teacher without a distillation."""
    on, given = config.tricks["distill"], config.settings["teachers"]
    if bool(on) != bool(given.teacher):
        raise BadInput(
            f"{' and '.join(on)} needs a teacher: give --teacher <run folder or checkpoint>"
            if on
            else f"--teacher {','.join(given.teacher)} has no effect: switch on one of "
            f"{', '.join(f'--{name}' for name in distillations.names())}, or give --teacher none"
        )
    for path in given.teacher or ():
        file_of(path)


def build_teachers(config: Config, data: DataSpec, normalize: Normalize) -> list[nn.Module]:
    """The teachers of the distillations that are on; none if there are none."""
    paths = config.settings["teachers"].teacher or ()
    return [_teacher(config, path, data, normalize) for path in paths]


def _teacher(config: Config, path: str, data: DataSpec, here: Normalize) -> nn.Module:
    """The network of a run folder or checkpoint, for images that are normalised by `here`."""
    checkpoint = Checkpoint.read(path)
    mine, theirs = config.chosen["data"], checkpoint.config.chosen["data"]
    if theirs.entry.form != mine.entry.form:
        raise BadInput(
            f"--teacher {path} was trained on {theirs.entry.name}, but the data set here is "
            f"{mine.entry.name}; give a teacher of the same data set"
        )
    learned = learned_data(checkpoint)
    if differs := learned.differences(data):
        raise BadInput(f"--teacher {path} learned other data than those here: {differs}")
    weights = config.settings["teachers"].teacher_weights
    model = restore_model(checkpoint.config, checkpoint, learned, weights)
    there = build_normalize(learned, here.mean.device)
    if not (torch.equal(here.mean, there.mean) and torch.equal(here.std, there.std)):
        model = Renormalized(model, here, there)
    return to_device(model.eval().requires_grad_(False), config, here.mean.device)
