"""A grid at a small scale, for a trial: fewer epochs on fewer images, and all points in time move along."""

import math
from collections.abc import Iterator
from typing import Any

from ..config.compose import Path
from ..config.schema import SECTIONS, Config
from ..core.contracts import EPOCH, TIME, unit_of
from ..core.errors import BadInput
from ..core.fields import Field


def scaled(config: Config, scale: float) -> dict[str, Any]:
    """The settings, by dotted keys, that leave this share of a run's epochs and of its images.

    Its steps are the square of the share, and it is evaluated once, in the end.
    """
    if not 0 < scale < 1:
        raise BadInput(f"--scale must be above 0 and below 1, got {scale}")
    epochs = float(f"{config.train.epochs * scale:.4g}")
    times = {".".join(path): moved for path, moved in _times(config, epochs)}
    once = {"run.evaluate_every": max(1, math.ceil(epochs))}
    return {"train.epochs": epochs, "data.fraction": _fraction(config, scale), **once, **times}


def _fraction(config: Config, scale: float) -> float:
    """The share of the images, with a batch of them at least."""
    data = config.chosen["data"]
    images = data.entry.facts.train or data.options.get("size")
    held = config.data.val if config.data.val < 1 or not images else config.data.val / images
    batch = config.train.batch_size / (images * (1 - held)) if images else 0.0
    wanted = max(config.data.fraction * scale, 1.1 * batch)  # a tenth more: classes are rounded one by one
    return float(f"{min(wanted, config.data.fraction):.4g}")


def _times(config: Config, epochs: float) -> Iterator[tuple[Path, Any]]:
    """The points in time that are given in epochs, as they are when there are `epochs` of them."""
    for path, field, value in _fields(config):
        moved = _moved(field, value, config.train.epochs, epochs)
        if moved != value:
            yield path, moved
    for path, start, stop in _spans(config):
        if stop is not None:  # rounding must leave an epoch between them
            ratio = epochs / config.train.epochs
            yield (*path, "stop"), max(math.ceil(stop * ratio), math.floor(start * ratio) + 1)


def _fields(config: Config) -> Iterator[tuple[Path, Field, Any]]:
    """Every setting of the configuration, but for the ends of spans: its path, its field and its value."""
    for name, section in SECTIONS.items():
        if section.settings:
            for key, field in section.fields.items():
                yield (name, key), field, getattr(config.settings[name], key)
        if section.is_choice:
            choice = config.chosen[name]
            for key, value in choice.options.items():
                yield (name, key), choice.entry.fields[key], value
        for trick, choice in config.tricks[name].items() if section.is_tricks else ():
            for key, value in choice.options.items():
                if key != "stop":
                    yield (name, trick, key), choice.entry.fields[key], value


def _spans(config: Config) -> Iterator[tuple[Path, int, int | None]]:
    for name, tricks in config.tricks.items():
        for trick, choice in tricks.items():
            if "stop" in choice.options:
                yield (name, trick), choice.options["start"], choice.options["stop"]


def _moved(field: Field, value: Any, before: float, after: float) -> Any:
    if value is None:
        return None
    if unit_of(field.type) == TIME:
        if isinstance(value, tuple | list):
            return [_moved(field, item, before, after) for item in value]
        # As a share, for what lies below 1 is read as one.
        return value if value < 1 else float(f"{value / before:.6g}") if value < before else after
    if unit_of(field.type) == EPOCH:
        return math.floor(value * after / before)
    return value
