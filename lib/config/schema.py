"""The configuration of a run: what is chosen, what is on, and every setting, with its file form and its name.

A section of the configuration chooses from a registry: exactly one entry (a model, an optimizer) or any
number of them (augmentations). The fields of what is chosen are its settings, beside those that the section
always has.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
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
    default: str | None = None  # the entry chosen if nobody says otherwise; None where any number may be on
    settings: type | None = None  # a dataclass: the settings that do not depend on what is chosen

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
    "surgery": Section("changes of the network, whatever its family: --<name> makes one", surgeries),
    "init": Section("initial weights, else as the network's author has them: --init <name>", initialisations),
    "augment": Section("augmentations, each on its own: --<name> switches it on", augmentations),
    "select": Section("which images of a batch are learned from: --<name> picks them", selections),
    "loss": Section("the loss", losses, "cross_entropy"),
    "optim": Section("the optimizer", optimizers, "sgd", ParamGroups),
    "wrap": Section("wrappers around the optimizer: --<name> switches one on", wrappers),
    "schedule": Section("the learning rate over time", schedules, "multistep", Warmup),
    "average": Section("averages of the weights: --<name> switches one on", averages),
    "distill": Section("distillation from a --teacher: --<name> switches one on", distillations),
    "teachers": Section("the teachers of a distillation", settings=TeacherSettings),
    "views": Section("test-time views: --<name> evaluates their mean in the end", tta),
    "train": Section("how the gradient is computed, and for how long", settings=TrainSettings),
    "evaluate": Section("what else is measured in the end", settings=EvaluateSettings),
    "run": Section("where and how the run is carried out", settings=RunSettings),
}

# Two runs that differ only in these learn the same thing, or are repetitions of one another.
NOT_HASHED = (
    ("run",), ("evaluate",), ("train", "seed"),
    *(("data", name) for name in ("root", "offline", "workers", "stream")),
)  # fmt: skip


def under(key: str, path: tuple[str, ...]) -> bool:
    """Whether a dotted key is that of `path`, or of something in it."""
    return key == ".".join(path) or key.startswith(".".join(path) + ".")


@dataclass(frozen=True)
class Choice:
    """A registered entry with the options that it was chosen with."""

    kind: str
    entry: Entry
    options: dict[str, Any]

    def build(self, **given) -> Any:
        """The object itself; `given` is what the program supplies."""
        with where(f"{self.kind} {self.entry.name}"):
            return self.entry.build(**given, **self.options)


@dataclass(frozen=True)
class Config:
    chosen: dict[str, Choice]  # by section
    tricks: dict[str, dict[str, Choice]]  # by section and name: those that are on
    settings: dict[str, Any]  # by section: an instance of the section's dataclass
    changed: dict[str, Any]  # what differs from the defaults, as a tree
    off: dict[str, list[str]]  # by section: tricks that the data set has on, and that were switched off
    notes: list[str]  # what the user should know of how the settings were read

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
        """What differs from the defaults and decides what is learned, the seed aside."""
        tree = {name: dict(part) for name, part in self.changed.items()}
        for section, *key in NOT_HASHED:
            if key:
                tree.get(section, {}).pop(key[0], None)
            else:
                tree.pop(section, None)
        return {name: part for name, part in tree.items() if part}

    def digest(self) -> str:
        """Eight hexadecimal digits that name what is learned.

        Of what differs from the defaults, so that a setting that is added later renames no run.
        """
        return hashlib.sha256(json.dumps(self.learned(), sort_keys=True).encode()).hexdigest()[:8]

    def folder(self) -> Path:
        """The run folder."""
        if self.run.output_dir:
            return Path(self.run.output_dir)
        usual = self.chosen["data"].entry.facts.augment
        tricks = [name for section in self.tricks.values() for name in section if name not in usual]
        name = self.run.name or "-".join([self.chosen["model"].entry.name, *tricks])
        data, name = (
            text.replace("/", "_").replace(":", "_") for text in (self.chosen["data"].entry.name, name)
        )
        return Path("runs", data, f"{name}-{self.digest()}", f"seed{self.train.seed}")


def to_yaml(tree: dict[str, Any]) -> str:
    return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=110)


def plain(value: Any) -> Any:
    """The tree with lists for tuples, as YAML and JSON have it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
