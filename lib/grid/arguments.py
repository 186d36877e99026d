"""From the settings of a row to the words of a command line that a user could type."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..config.compose import Path, Setting, merge
from ..config.legacy import RETIRED, TRANSLATED
from ..config.sources import layer_of
from ..config.spelling import is_switch
from ..core.errors import BadInput

Part = tuple[str, Mapping[str, Any]]  # where settings stand, for messages, and they: dotted keys and values

# What a grid sets itself, and where it is asked for.
OWN = {("train", "seed"): "seeds", ("run", "output_dir"): "--output-dir"}
FILES = "config"  # the key that stands for --config, beside the settings


def arguments(parts: Sequence[Part], notes: list[str]) -> tuple[str, ...]:
    """The words after `train.py`: the files of all the parts, then every setting that counts, once.

    Args:
        parts: a later one's settings come before an earlier one's, as if those had been files.
        notes: gets what the user should know of how they were read.
    Raises:
        BadInput: a setting is unknown, contradicts another of its part, or is the grid's own.
    """
    files = [str(file) for _, part in parts for file in _listed(part.get(FILES, []))]
    layers = [
        layer_of([(key, value, key) for key, value in part.items() if key != FILES], source)
        for source, part in parts
    ]
    notes += [
        f"{key} ({source}) has no effect: {RETIRED[key]}"
        for source, part in parts
        for key in part
        if key in RETIRED
    ]
    settings = merge(layers, notes)
    for path, setting in settings.items():
        if path in OWN:
            raise BadInput(f"{setting} is the grid's own to set: use {OWN[path]}")
    words = ["--config", ",".join(files)] if files else []
    return (*words, *(word for path, setting in settings.items() for word in _words(path, setting)))


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _words(path: Path, setting: Setting) -> list[str]:
    """One setting: as the user spelled it, or by its path where that spelling stands for something else."""
    key = ".".join(path) if setting.spelled.replace("-", "_") in TRANSLATED else setting.spelled
    if isinstance(setting.value, bool) and is_switch(key):
        return [f"--{key}" if setting.value else f"--no-{key}"]
    value = text(setting.value)
    # A word that looks like a flag, or like key=value, would not be taken for the value.
    return [f"--{key}={value}"] if value.startswith("--") or "=" in value else [f"--{key}", value]


def text(value: Any) -> str:
    """A value of YAML as it is written on a command line."""
    if isinstance(value, list):
        return ",".join(map(text, value))
    return "none" if value is None else str(value)
