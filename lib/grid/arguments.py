"""The settings of a row as the arguments of a command line that a user could type."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..config.compose import Path, Setting, as_switch, merge
from ..config.sources import layers_of
from ..config.spelling import is_switch, is_written
from ..core.errors import BadInput

Part = tuple[str, Mapping[str, Any]]  # the place of settings in the file, and dotted keys and values

# Settings that the grid makes itself, and the option for each.
RESERVED = {("train", "seed"): "seeds", ("run", "output_dir"): "--output-dir"}
FILES = "config"  # the key for --config; all other keys are settings


def arguments(parts: Sequence[Part], notes: list[str]) -> tuple[str, ...]:
    """The words after `train.py`: the config files of all parts, then each effective setting once.

    Args:
        parts: settings of a later part override those of an earlier one.
        notes: receives what the user should know about how the settings were interpreted.
    Raises:
        BadInput: a setting is unknown, conflicts with another of its part, or is reserved for the grid.
    """
    files = [str(file) for _, part in parts for file in _listed(part.get(FILES, []))]
    sources = [([(k, v, k) for k, v in part.items() if k != FILES], source) for source, part in parts]
    settings = merge(layers_of(sources, notes), notes)
    for path, setting in settings.items():
        if path in RESERVED:
            raise BadInput(f"{setting} cannot be set by a row: use {RESERVED[path]}")
    words = ["--config", ",".join(files)] if files else []
    return (*words, *(word for path, setting in settings.items() for word in _words(path, setting)))


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _words(path: Path, setting: Setting) -> list[str]:
    """One setting as the user spelled it, or by its path where the spelling is that of another project."""
    key = setting.spelled if is_written(setting.spelled, path) else ".".join(path)
    if is_switch(key) and (on := as_switch(setting.value)) is not None:
        return [f"--{key}" if on else f"--no-{key}"]
    value = text(setting.value)
    # As a separate word it would be read as a flag, or as key=value.
    return [f"--{key}={value}"] if value.startswith("--") or "=" in value else [f"--{key}", value]


def text(value: Any) -> str:
    """A YAML value as written on a command line."""
    if isinstance(value, list):
        return ",".join(map(text, value))
    return "none" if value is None else str(value)
