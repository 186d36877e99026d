"""The configuration of a run: its choices, enabled tricks and settings; its YAML form, hash and folder.

A section of the configuration selects from a registry: exactly one entry (a model, an optimizer) or any
number of entries (augmentations). The fields of the selected entries are settings of the section, in addition
to those that the section always has.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from ..core.errors import where
from ..core.fields import Field, fields_of
from ..core.registry import (
    Entry,
    Registry,
    augmentations,
    averages,
    datasets,
    distillations,
    initialisations,
    losses,
    models,
    optimizers,
    schedules,
    selections,
    surgeries,
    tta,
    wrappers,
)
from ..optim.param_groups import ParamGroups
from ..optim.schedules import Warmup
from .settings import DataSettings, EvaluateSettings, RunSettings, TeacherSettings, TrainSettings


@dataclass(frozen=True)
class Section:
    help: str
    registry: Registry | None = None
    default: str | None = None  # the entry selected by default; None where any number can be enabled
    settings: type | None = None  # dataclass of the settings that do not depend on what is selected

    @property
    def fields(self) -> dict[str, Field]:
        return fields_of(self.settings) if self.settings else {}

    @property
    def is_choice(self) -> bool:
        return self.default is not None

    @property
    def is_tricks(self) -> bool:
        return self.registry is not None and self.default is None


SECTIONS = {
    "model": Section("the network", models, "wideresnet"),
    "data": Section("the data set", datasets, "cifar10", DataSettings),
    "surgery": Section("changes to a network of any family: --<name> enables one", surgeries),
    "init": Section("initial weights; default: those of the model's authors: --init <name>", initialisations),
    "augment": Section("augmentations: --<name> enables one", augmentations),
    "select": Section("selection of the images of a batch to train on: --<name> enables one", selections),
    "loss": Section("the loss", losses, "cross_entropy"),
    "optim": Section("the optimizer", optimizers, "sgd", ParamGroups),
    "wrap": Section("wrappers around the optimizer: --<name> enables one", wrappers),
    "schedule": Section("the learning rate schedule", schedules, "multistep", Warmup),
    "average": Section("averages of the weights: --<name> enables one", averages),
    "distill": Section("distillation from a --teacher: --<name> enables one", distillations),
    "teachers": Section("the teachers of a distillation", settings=TeacherSettings),
    "views": Section("test-time augmentation of the final evaluation: --<name> enables one", tta),
    "train": Section(
        "batch size, budget, precision and the computation of the gradient", settings=TrainSettings
    ),
    "evaluate": Section("extra measurements after training", settings=EvaluateSettings),
    "run": Section("where and how the run is carried out", settings=RunSettings),
}

LABELS = 80  # characters, at most, of the labels in the name of a run folder

# Where the data are and how they are read, which changes no image.
ACCESS = tuple(("data", name) for name in ("root", "offline", "workers", "stream"))
# Settings that do not change the training, and the seed: runs that differ only in these share a hash.
NOT_HASHED = (("run",), ("evaluate",), ("train", "seed"), *ACCESS)
# What may be changed when a run is evaluated; everything else comes from its config.yaml.
EVALUATION = (("views",), ("evaluate",), ("run", "device"), *ACCESS)


def under(key: str, path: tuple[str, ...]) -> bool:
    """Whether a dotted key is `path` or lies below it."""
    return key == ".".join(path) or key.startswith(".".join(path) + ".")


@dataclass(frozen=True)
class Choice:
    """A selected entry with its options."""

    kind: str
    entry: Entry
    options: dict[str, Any]

    def build(self, **given) -> Any:
        """The object; `given` are the arguments that the program supplies."""
        with where(f"{self.kind} {self.entry.name}"):
            return self.entry.build(**given, **self.options)


@dataclass(frozen=True)
class Config:
    chosen: dict[str, Choice]  # by section
    tricks: dict[str, dict[str, Choice]]  # by section and name: the enabled ones
    settings: dict[str, Any]  # by section: an instance of the section's dataclass
    changed: dict[str, Any]  # what differs from the defaults, as a tree
    off: dict[str, list[str]]  # by section: tricks on by default for the data set that were disabled
    notes: list[str]  # lines to show to the user about how the settings were read

    @property
    def train(self) -> TrainSettings:
        return self.settings["train"]

    @property
    def run(self) -> RunSettings:
        return self.settings["run"]

    @property
    def evaluate(self) -> EvaluateSettings:
        return self.settings["evaluate"]

    @property
    def data(self) -> DataSettings:
        return self.settings["data"]

    def tree(self) -> dict[str, Any]:
        """Everything, as plain values: `--config` of this tree gives this configuration."""
        tree = {}
        for name, section in SECTIONS.items():
            tree[name] = {}
            if section.is_choice:
                tree[name] |= {"name": self.chosen[name].entry.name, **self.chosen[name].options}
            if section.is_tricks:
                tree[name] |= {trick: choice.options or True for trick, choice in self.tricks[name].items()}
                tree[name] |= dict.fromkeys(self.off[name], False)
            if section.settings:
                tree[name] |= asdict(self.settings[name])
        return plain(tree)

    def learned(self) -> dict[str, Any]:
        """What differs from the defaults and changes the training, without the seed."""
        tree = {name: dict(part) for name, part in self.changed.items()}
        for section, *key in NOT_HASHED:
            if key:
                tree.get(section, {}).pop(key[0], None)
            else:
                tree.pop(section, None)
        return {name: part for name, part in tree.items() if part}

    def digest(self) -> str:
        """Eight hexadecimal digits: a hash of what differs from the defaults, seed aside.

        Settings that are added later, at their defaults, do not change it.
        """
        return hashlib.sha256(json.dumps(self.learned(), sort_keys=True).encode()).hexdigest()[:8]

    def folder(self) -> Path:
        """The run folder. One that an earlier version named by its model and tricks alone is used again."""
        if self.run.output_dir:
            return Path(self.run.output_dir)

        def named(*parts: str) -> Path:
            data, name = (
                text.replace("/", "_").replace(":", "_")
                for text in (self.chosen["data"].entry.name, "-".join(parts))
            )
            return Path("runs", data, f"{name}-{self.digest()}", f"seed{self.train.seed}")

        if self.run.name:
            return named(self.run.name)
        usual = self.chosen["data"].entry.facts.augment
        tricks = [name for section in self.tricks.values() for name in section if name not in usual]
        former = named(self.chosen["model"].entry.name, *tricks)
        return former if former.parent.exists() else named(*self._labels())

    def _labels(self) -> list[str]:
        """The model and what differs from the defaults, `cutout8` or `lr0.05`, as far as there is room."""
        names, values = [self.chosen["model"].entry.name], []
        for name, part in self.learned().items():
            section = SECTIONS[name]
            for key, value in part.items():
                if section.is_tricks:
                    names.append(_trick_label(key, value, next(iter(section.registry[key].fields), "")))
                elif key != "name":
                    values.append(_label(key, value))
                elif name not in ("model", "data"):
                    names.append(value)
        labels = [re.sub(r"[^\w.+-]", "_", label) for label in (*names, *values)]
        lengths = accumulate(len(label) + 1 for label in labels)
        return [label for label, length in zip(labels, lengths, strict=True) if length <= LABELS]


def _trick_label(name: str, value: Any, first: str) -> str:
    """`cutout`, `cutout8` for its `first` option, `cutout_prob0.5` for another one, `no_cutout`."""
    if not isinstance(value, dict):
        return _label(name, value)
    return name + "".join(_label("" if key == first else f"_{key}", of) for key, of in value.items())


def _label(key: str, value: Any) -> str:
    """A setting and its value: `lr0.05`, `precision_bf16`, `nesterov`, `no_flip`."""
    if isinstance(value, bool):
        return key if value else f"no_{key}"
    items = value if isinstance(value, list) else [value]
    text = "_".join(f"{item:g}" if isinstance(item, float) else str(item) for item in items)
    return f"{key}_{text}" if text[:1].isalpha() else f"{key}{text}"


def to_yaml(tree: dict[str, Any]) -> str:
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=110)


def plain(value: Any) -> Any:
    """The tree with lists for tuples, as YAML and JSON have it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
