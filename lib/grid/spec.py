"""What a grid's file asks for: rows, each a command line, and seeds.

    base: {config: configs/quickstart.yaml, epochs: 4}   # every row has these; `config` is --config
    axes:                                                # a row for each combination
      cutout: [off, on]                                  # a setting and its values
      mix: {none: , mixup: 0.2, both: {mixup: on, cutmix: on}}   # or names and their settings
    exclude: [{cutout: on, mix: both}]                   # less the combinations that hold one of these
    rows: {sam: on, slow: {lr: 0.01, published: table-1}}   # and single rows
    seeds: 0..2                                          # or [0, 1, 2]
    baseline: none                                       # the row that tables compare with; else the first

Settings are spelled as on the command line or in a config file. A name with a bare value, `sam: on`, stands
for the setting of that name. `published` is no setting: it names what the row is to be compared with.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.cli import parse
from ..config.schema import Config
from ..config.sources import flatten, read_tree
from ..core.errors import BadInput, nearest
from .arguments import Part, arguments
from .axes import Axis, product

KEYS = ("base", "axes", "exclude", "rows", "seeds", "baseline")
PUBLISHED = "published"


@dataclass(frozen=True)
class Row:
    """A line of the grid's table: what all its runs have in common but for the seed."""

    name: str
    parts: tuple[Part, ...]  # its settings, and where they stand
    arguments: tuple[str, ...]  # the words after train.py that they make, less the seed and the folder
    config: Config
    published: str | None = None
    notes: tuple[str, ...] = ()  # what the user should know of how the settings were read

    def but(self, source: str, settings: Mapping[str, Any]) -> "Row":
        """The same row with other settings on top."""
        return _composed(self.name, (*self.parts, (source, settings)), self.published)


@dataclass(frozen=True)
class Grid:
    name: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    baseline: str


def read_grid(path: Path) -> Grid:
    """The grid of a file; every row's configuration is composed, so nothing unknown is left in it.

    Raises:
        BadInput: the file cannot be read, or something in it cannot be used.
    """
    tree = read_tree(path)
    try:
        return _grid(path.stem, tree)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def read_seeds(value: Any) -> tuple[int, ...]:
    """`0..4`, `0,2,5`, or a list."""
    said = f"seeds must be whole numbers, as [0, 1, 2] or 0..2, got {value!r}"
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+)\s*\.\.\s*(\d+)\s*", value)):
        seeds = list(range(int(found[1]), int(found[2]) + 1))
    else:
        items = re.split(r"[,\s]+", value.strip()) if isinstance(value, str) else value
        if not isinstance(items, list) or not all(re.fullmatch(r"\d+", str(item)) for item in items):
            raise BadInput(said)
        seeds = [int(item) for item in items]
    if not seeds or len(set(seeds)) < len(seeds):
        raise BadInput(f"{said}: {'one stands twice' if seeds else 'there is none'}")
    return tuple(seeds)


def _grid(name: str, tree: dict[str, Any]) -> Grid:
    for key in tree:
        if key not in KEYS:
            raise BadInput(f"unknown key {key!r}: {nearest(str(key), KEYS) or 'it has ' + ', '.join(KEYS)}")
    base: Part = "base", _settings("base", tree.get("base"))
    rows = [_row(name, [base, *parts]) for name, parts in _named_parts(tree)]
    if not rows:
        raise BadInput("a grid needs axes or rows, as `rows: {plain: , cutout: on}`")
    _refuse_twins(rows)
    baseline = str(tree.get("baseline", rows[0].name))
    names = [row.name for row in rows]
    if baseline not in names:
        raise BadInput(f"baseline {baseline!r} is no row; {nearest(baseline, names) or among(names)}")
    return Grid(name, tuple(rows), read_seeds(tree.get("seeds", [0])), baseline)


def _named_parts(tree: dict[str, Any]) -> list[tuple[str, list[Part]]]:
    """The rows of the axes, then the single ones: names and settings beside the base."""
    exclude = tree.get("exclude") or []
    exclude = [exclude] if isinstance(exclude, dict) else exclude
    if not isinstance(exclude, list) or not all(isinstance(rule, dict) and rule for rule in exclude):
        raise BadInput(f"exclude: expected axes and values, as [{{cutout: on}}], got {exclude!r}")
    axes = [_axis(str(key), values) for key, values in _mapping("axes", tree.get("axes")).items()]
    if exclude and not axes:
        raise BadInput("exclude: there are no axes to exclude from")
    rows = _mapping("rows", tree.get("rows"))
    single = [(label(key), [(f"row {label(key)}", _named(label(key), value))]) for key, value in rows.items()]
    return [*product(axes, exclude), *single]


def _axis(name: str, values: Any) -> Axis:
    if not isinstance(values, list | dict) or not values:
        raise BadInput(f"axis {name}: expected values, as [0.1, 0.2], or names and settings, got {values!r}")
    if isinstance(values, dict):
        return Axis(
            name, tuple((label(key), _named(label(key), value)) for key, value in values.items()), True
        )
    if any(isinstance(value, dict) for value in values):
        raise BadInput(f"axis {name}: sets of settings need names: write {name}: {{name: {{...}}, ...}}")
    if len({str(value) for value in values}) < len(values):
        raise BadInput(f"axis {name}: a value stands twice in {values!r}")
    return Axis(name, tuple((value, {name: value}) for value in values), False)


def _named(name: str, value: Any) -> dict[str, Any]:
    """The settings of a name: a tree of them, none, or the value of the setting of that name."""
    return _settings(name, value) if value is None or isinstance(value, dict) else {name: value}


def _settings(where: str, value: Any) -> dict[str, Any]:
    """A tree of settings, by dotted keys."""
    return dict(flatten(_mapping(where, value)))


def _mapping(where: str, value: Any) -> dict:
    if value is not None and not isinstance(value, dict):
        raise BadInput(f"{where}: expected key: value, got {value!r}")
    return value or {}


def label(key: Any) -> str:
    """A name as the user wrote it: YAML reads on and off as true and false."""
    return {True: "on", False: "off"}[key] if isinstance(key, bool) else str(key)


def _row(name: str, parts: list[Part]) -> Row:
    if not re.fullmatch(r"[\w+=,][\w+=,.-]*", name):
        raise BadInput(f"row {name!r}: a name is a folder too: letters, digits and _ . , + = - only")
    published = next((str(part[PUBLISHED]) for _, part in parts if PUBLISHED in part), None)
    parts = [(source, {k: v for k, v in part.items() if k != PUBLISHED}) for source, part in parts]
    return _composed(name, tuple(parts), published)


def _composed(name: str, parts: tuple[Part, ...], published: str | None) -> Row:
    notes: list[str] = []
    try:
        words = arguments(parts, notes)
        config = parse(list(words)).config()
    except BadInput as error:
        raise BadInput(f"row {name}: {error}") from error
    return Row(name, parts, words, config, published, (*notes, *config.notes))


def _refuse_twins(rows: list[Row]) -> None:
    """Two rows of one name would share a folder, and two of one configuration are one run."""
    names: dict[str, Row] = {}
    digests: dict[str, Row] = {}
    for row in rows:
        if row.name.lower() in names:  # some file systems see no difference
            raise BadInput(f"row {row.name}: there are two rows of this name")
        if twin := digests.get(row.config.digest()):
            raise BadInput(f"rows {twin.name} and {row.name} are the same run; leave one out")
        names[row.name.lower()] = digests[row.config.digest()] = row


def among(names: list[str], shown: int = 8) -> str:
    """The names there are, for a message."""
    return f"there are {', '.join(names[:shown])}{', ...' if len(names) > shown else ''}"
