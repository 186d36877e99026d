"""Short runs with any trick switched on, on made-up images: what benchmark, documentation and tests share."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import lib.store.checkpoint
from lib.config.cli import parse
from lib.config.schema import SECTIONS, Config
from lib.core.errors import BadInput
from lib.engine.step import Run, train_step
from lib.factory import build

Settings = dict[str, Any]  # by dotted key, as on the command line

CPU = torch.device("cpu")
# What tricks are tried with, or on; the views come after training, and are no trick of it.
NO_TRICKS = ("model", "data", "views")
# A constant schedule: a warm-up's first rate of 0 would hide what the optimizer does.
SMALL: Settings = {
    "data.name": "synthetic", "data.size": 12, "data.classes": 3, "data.image_size": 16,
    "train.batch_size": 4, "train.epochs": 1, "schedule.name": "constant",
    "augment.crop": False, "augment.flip": False,
}  # fmt: skip
TINY = "wrn_10_1"  # 0.08 M parameters, for what does not depend on the model
# Small too, with all that a trick may look for in a network: filters, BatchNorm, branches that end in one.
HOST: Settings = {
    "model.name": "resnet_preact", "model.depth": 8, "model.initial_channels": 8, "model.add_last_bn": True,
}  # fmt: skip


def tricks() -> dict[str, Settings]:
    """Every registered trick, as `<section>.<name>`, with the setting that switches it on."""
    return {
        f"{section}.{name}": switch(section, name)
        for section, known in SECTIONS.items()
        for name in (known.registry.names() if known.registry and section not in NO_TRICKS else ())
    }


# What does nothing to the batch of a trial at its default, or cannot take the smallest of its images.
AT: dict[str, Settings] = {
    "surgery.ghost_batchnorm": {"surgery.ghost_batchnorm.size": 1},
    "select.proxy": {"select.proxy.model": TINY},
}


def switch(section: str, name: str) -> Settings:
    if (trick := f"{section}.{name}") in AT:
        return AT[trick]
    return {f"{section}.{name}": True} if SECTIONS[section].is_tricks else {f"{section}.name": name}


def section_of(trick: str) -> str:
    return trick.partition(".")[0]


def are_alternatives(one: str, other: str) -> bool:
    """Whether one of the two is chosen: two losses, two optimizers."""
    return section_of(one) == section_of(other) and SECTIONS[section_of(one)].is_choice


def config_of(settings: Settings) -> Config:
    return parse([f"{key}={value}" for key, value in settings.items()]).config()


def start(settings: Settings, device: torch.device = CPU, teacher: str = TINY) -> Run:
    """The run of these settings.

    Args:
        teacher: the model of which a distillation gets an untrained network for the same images.
    Raises:
        BadInput: the settings contradict one another, or the model or the images.
    """
    if any(section_of(key) == "distill" for key in settings):
        data = tuple((key, value) for key, value in settings.items() if section_of(key) == "data")
        network = ("model.name", teacher), ("train.batch_size", 2), *data
        settings = settings | {"teachers.teacher": _teacher(network)}
    return build(config_of(settings), device, note=_refuse_note)


def refusal(settings: Settings) -> str | None:
    """Why these settings are refused; None where a step in the middle of the budget moves the weights."""
    try:
        run = start(settings)
    except BadInput as error:
        return str(error)
    before = [p.detach().clone() for p in run.params]
    if not train_step(run, run.total // 2).isfinite() or not all(p.isfinite().all() for p in run.params):
        raise ArithmeticError(f"a step of {settings} is not finite")
    if all(map(torch.equal, before, run.params)):
        raise ArithmeticError(f"a step of {settings} moves no weight")
    return None


_FOLDER = TemporaryDirectory()  # for the life of the process


@cache
def _teacher(settings: tuple[tuple[str, Any], ...]) -> str:
    """The checkpoint of an untrained network."""
    config = config_of(dict(settings))
    path = Path(_FOLDER.name, f"{config.digest()}.pt")
    lib.store.checkpoint.save(path, build(config, CPU, _refuse_note), 0, config.tree(), best=None, code="")
    return str(path)


def _refuse_note(line: str) -> None:
    raise ValueError(f"a trial should work without a note, but this one says: {line}")
