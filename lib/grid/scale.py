"""A run at a small scale, for a trial: fewer epochs on fewer images, with all points in time moved along.

The units in the annotations of settings say which of them are points in time.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ..config.schema import SECTIONS, Config
from ..core.contracts import EPOCH, Unit, unit_of
from ..core.errors import BadInput
from ..core.fields import Field


def scaled(config: Config, scale: float) -> dict[str, Any]:
    """The settings, by dotted keys, that reduce a run to this fraction of its epochs and of its images.

    They multiply the number of steps by the square of `scale`. The run is evaluated once, at its end.
    """
    if not 0 < scale < 1:
        raise BadInput(f"--scale must be above 0 and below 1, got {scale}")
    before, after = config.train.epochs, float(f"{config.train.epochs * scale:.4g}")
    settings = {"train.epochs": after, "data.fraction": _fraction(config, scale)}
    settings["run.evaluate_every"] = max(1, math.ceil(after))
    for prefix, fields, values in _parts(config):
        moved = {key: _move(value, unit_of(fields[key].type), before, after) for key, value in values.items()}
        if moved.get("stop") is not None:  # rounding must leave at least one epoch
            moved["stop"] = max(math.ceil(values["stop"] * after / before), moved["start"] + 1)
        settings |= {f"{prefix}.{key}": value for key, value in moved.items() if value != values[key]}
    return settings


def _fraction(config: Config, scale: float) -> float:
    """The fraction of the images, which must fill at least one batch."""
    data = config.chosen["data"]
    images = data.entry.facts.train or data.options.get("size")
    val = config.data.val if config.data.val < 1 or not images else config.data.val / images
    batch = config.train.batch_size / (images * (1 - val)) if images else 0.0
    wanted = max(config.data.fraction * scale, 1.1 * batch)  # 10 % more, as each class is rounded by itself
    return float(f"{min(wanted, config.data.fraction):.4g}")


def _parts(config: Config) -> Iterator[tuple[str, Mapping[str, Field], Mapping[str, Any]]]:
    """Every part of the configuration: its dotted prefix, its fields and their values."""
    for name, section in SECTIONS.items():
        if section.settings:
            yield name, section.fields, vars(config.settings[name])
        if section.is_choice:
            yield name, config.chosen[name].entry.fields, config.chosen[name].options
        for trick, choice in config.tricks.get(name, {}).items():
            yield f"{name}.{trick}", choice.entry.fields, choice.options


def _move(value: Any, unit: Unit | None, before: float, after: float) -> Any:
    """The value for a budget of `after` epochs in place of `before`."""
    if value is None or unit is None:
        return value
    if unit == EPOCH:
        return math.floor(value * after / before)
    if isinstance(value, tuple | list):
        return [_move(item, unit, before, after) for item in value]
    if value < 1:  # a fraction of the budget already
        return value
    if value >= before and after >= 1:
        return after
    # The end of a budget below one epoch has no number of its own: 1 is an epoch, and less is a fraction.
    return min(float(f"{value / before:.6g}"), 0.999999)
