"""The rows of a grid's axes: one for each combination of their values, with a name."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import habits
from ..config.compose import as_switch
from ..config.schema import SECTIONS
from ..core.errors import BadInput, nearest
from ..core.fields import is_none
from .arguments import FILES, Part, text

NONE = "none"  # left out of the names of combinations


@dataclass(frozen=True)
class Axis:
    """A setting with its values, or named sets of settings."""

    name: str
    points: tuple[tuple[Any, Mapping[str, Any]], ...]  # a value or the name of a set, and its settings
    named: bool  # whether the points are named sets


def product(axes: Sequence[Axis], exclude: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Part]]]:
    """Names and settings of all combinations that no rule excludes, in order."""
    for rule in exclude:
        _check_exclusion(rule, axes)
    rules = [{name: _shown(wanted) for name, wanted in rule.items()} for rule in exclude]
    matched: set[int] = set()
    rows = []
    for points in itertools.product(*(axis.points for axis in axes)) if axes else ():
        labels = {axis.name: _shown(point) for axis, (point, _) in zip(axes, points, strict=True)}
        matches = {i for i, rule in enumerate(rules) if rule.items() <= labels.items()}
        matched |= matches
        if not matches:
            pairs = zip(axes, points, strict=True)
            parts = [(f"axis {axis.name}", settings) for axis, (_, settings) in pairs]
            rows.append((_name(axes, [point for point, _ in points]), parts))
    if unmatched := [dict(rule) for i, rule in enumerate(exclude) if i not in matched]:
        raise BadInput(f"exclude: {unmatched[0]} matches no combination")
    return rows


def _check_exclusion(rule: Mapping[str, Any], axes: Sequence[Axis]) -> None:
    known = {axis.name: [_shown(point) for point, _ in axis.points] for axis in axes}
    for name, wanted in rule.items():
        if name not in known:
            hint = nearest(str(name), known) or f"there are {', '.join(known)}"
            raise BadInput(f"exclude: {name!r} is no axis; {hint}")
        if _shown(wanted) not in known[name]:
            values = ", ".join(known[name])
            raise BadInput(f"exclude: {_shown(wanted)} is no value of the axis {name}, which has {values}")


def _shown(value: Any) -> str:
    """A value or the name of a set, with all spellings of a switch as on and off."""
    return {True: "on", False: "off", None: text(value)}[as_switch(value)]


def _name(axes: Sequence[Axis], points: Sequence[Any]) -> str:
    parts = [_part(axis, point) for axis, point in zip(axes, points, strict=True)]
    return "-".join(part for part in parts if part != NONE) or NONE


def _part(axis: Axis, point: Any) -> str:
    """The part of a row's name for one value: `cutout` for on, `resnet20`, `lr0.1`; none for off."""
    if axis.named:
        return str(point)
    if is_none(point) or (on := as_switch(point)) is False:
        return NONE
    head, _, rest = axis.name.partition(".")
    key = (rest if habits.SECTIONS.get(head, head) in SECTIONS and rest else axis.name).replace(".", "_")
    if on:
        return key
    if axis.name == FILES:
        return "-".join(Path(file).stem for file in (point if isinstance(point, list) else [point]))
    value = text(point).replace("/", "_").replace(":", "_")
    return value if value[:1].isalpha() else f"{key}{value}"
