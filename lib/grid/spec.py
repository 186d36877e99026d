"""The file of a grid: rows, of which each is a command line, and seeds.

    base: {config: configs/quickstart.yaml, epochs: 4}   # settings of every row; `config` is --config
    axes:                                                # one row for each combination of values
      cutout: [off, on]                                  # a setting and its values
      mix: {none: , mixup: 0.2, both: {mixup: on, cutmix: on}}   # or names and their settings
    exclude: [{cutout: on, mix: both}]                   # combinations to leave out
    rows: {sam: on, slow: {lr: 0.01, published: table-1}}   # single rows
    seeds: 0..2                                          # or [0, 1, 2]
    baseline: none                                       # the row to compare with; default: the first

Settings are spelled as on the command line or in a config file. A name with a plain value, `sam: on`, is
short for the setting of that name. `published` is not a setting: it names the published result to compare
with.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
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
    """A row of the table: a configuration that is run with several seeds."""

    name: str
    parts: tuple[Part, ...]  # its settings, by their place in the file
    arguments: tuple[str, ...]  # the words after train.py, without seed and folder
    config: Config
    published: str | None = None
    notes: tuple[str, ...] = ()  # for the user: how settings were interpreted

    def override(self, source: str, settings: Mapping[str, Any]) -> "Row":
        """The row with these settings changed; `source` names their origin in messages."""
        return _compose(self.name, (*self.parts, (source, settings)), self.published)


@dataclass(frozen=True)
class Grid:
    name: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    baseline: str


def read_grid(path: Path) -> Grid:
    """The grid in a file; BadInput if it cannot be read, or any of its rows cannot be composed."""
    tree = read_tree(path)
    try:
        return _grid(path.stem, tree)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def select_rows(rows: Sequence[Row], pattern: str | None) -> list[Row]:
    """The rows with a name that matches one of the shell patterns in `pattern`, separated by commas."""
    if pattern is None:
        return list(rows)
    patterns = [part.strip() for part in pattern.split(",")]
    found = [row for row in rows if any(fnmatch.fnmatchcase(row.name, p) for p in patterns)]
    if not found:
        raise BadInput(f"--only {pattern} matches no row; {_list_names(rows)}")
    return found


def read_seeds(value: Any) -> tuple[int, ...]:
    """Seeds, each once, from `0..4`, `0,2,5` or a list; anything else is a BadInput."""
    rule = f"seeds must be whole numbers, such as [0, 1, 2] or 0..2, got {value!r}"
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d+)\s*\.\.\s*(\d+)\s*", value)):
        seeds = list(range(int(found[1]), int(found[2]) + 1))
    else:
        items = re.split(r"[,\s]+", value.strip("[] ")) if isinstance(value, str) else value
        if not isinstance(items, list) or not all(re.fullmatch(r"\d+", str(item)) for item in items):
            raise BadInput(rule)
        seeds = [int(item) for item in items]
    if not seeds or len(set(seeds)) < len(seeds):
        raise BadInput(f"{rule}: {'one is given twice' if seeds else 'there is none'}")
    if isinstance(value, str) and value.isdigit() and (number := seeds[0]):  # 0 cannot be a number of seeds
        raise BadInput(
            f"seeds {number} may be one seed or {number} of them: write {number}..{number} or 0..{number - 1}"
        )
    return tuple(seeds)


def _grid(name: str, tree: dict[str, Any]) -> Grid:
    for key in tree:
        if key not in KEYS:
            hint = nearest(str(key), KEYS) or f"known keys: {', '.join(KEYS)}"
            raise BadInput(f"unknown key {key!r}: {hint}")
    base: Part = "base", _settings("base", tree.get("base"))
    rows = [_row(name, [base, *parts]) for name, parts in _named_parts(tree)]
    if not rows:
        raise BadInput("a grid needs axes or rows, such as `rows: {plain: , cutout: on}`")
    _refuse_duplicates(rows)
    baseline = str(tree.get("baseline", rows[0].name))
    names = [row.name for row in rows]
    if baseline not in names:
        raise BadInput(f"baseline {baseline!r} is no row; {nearest(baseline, names) or _list_names(rows)}")
    return Grid(name, tuple(rows), read_seeds(tree.get("seeds", [0])), baseline)


def _named_parts(tree: dict[str, Any]) -> list[tuple[str, list[Part]]]:
    """Names and settings of all rows, without the base: those of the axes, then the single rows."""
    exclude = tree.get("exclude") or []
    exclude = [exclude] if isinstance(exclude, dict) else exclude
    if not isinstance(exclude, list) or not all(isinstance(rule, dict) and rule for rule in exclude):
        raise BadInput(f"exclude: expected axes and values, such as [{{cutout: on}}], got {exclude!r}")
    axes = [_axis(str(key), values) for key, values in _mapping("axes", tree.get("axes")).items()]
    if exclude and not axes:
        raise BadInput("exclude: there are no axes to exclude from")
    rows = _mapping("rows", tree.get("rows"))
    single = [(key, [(f"row {key}", _named(key, value))]) for key, value in rows.items()]
    return [*product(axes, exclude), *single]


def _axis(name: str, values: Any) -> Axis:
    if not isinstance(values, list | dict) or not values:
        expected = "values, such as [0.1, 0.2], or names and settings"
        raise BadInput(f"axis {name}: expected {expected}, got {values!r}")
    if isinstance(values, dict):
        return Axis(name, tuple((key, _named(key, value)) for key, value in values.items()), True)
    if any(isinstance(value, dict) for value in values):
        raise BadInput(f"axis {name}: sets of settings need names: write {name}: {{name: {{...}}, ...}}")
    if len({str(value) for value in values}) < len(values):
        raise BadInput(f"axis {name}: a value is repeated in {values!r}")
    return Axis(name, tuple((value, {name: value}) for value in values), False)


def _named(name: str, value: Any) -> dict[str, Any]:
    """The settings of a named row or point: a tree of settings, none, or the value of the setting `name`."""
    return _settings(name, value) if value is None or isinstance(value, dict) else {name: value}


def _settings(where: str, value: Any) -> dict[str, Any]:
    """A tree of settings as dotted keys and values."""
    return dict(flatten(_mapping(where, value)))


def _mapping(where: str, value: Any) -> dict:
    if value is not None and not isinstance(value, dict):
        raise BadInput(f"{where}: expected key: value, got {value!r}")
    return value or {}


def _row(name: str, parts: list[Part]) -> Row:
    if not re.fullmatch(r"[\w+=,][\w+=,.-]*", name):
        raise BadInput(f"row {name!r}: a name is also a folder, so use letters, digits and _ . , + = - only")
    published = next((str(part[PUBLISHED]) for _, part in parts if PUBLISHED in part), None)
    parts = [(source, {k: v for k, v in part.items() if k != PUBLISHED}) for source, part in parts]
    return _compose(name, tuple(parts), published)


def _compose(name: str, parts: tuple[Part, ...], published: str | None) -> Row:
    notes: list[str] = []
    try:
        words = arguments(parts, notes)
        config = parse(list(words)).config()
    except BadInput as error:
        raise BadInput(f"row {name}: {error}") from error
    return Row(name, parts, words, config, published, (*notes, *config.notes))


def _refuse_duplicates(rows: list[Row]) -> None:
    """Refuse rows that would share a folder, and rows with the same configuration."""
    names: dict[str, Row] = {}
    digests: dict[str, Row] = {}
    for row in rows:
        if row.name.lower() in names:  # some file systems ignore case
            raise BadInput(f"row {row.name}: there are two rows of this name")
        if other := digests.get(row.config.digest()):
            raise BadInput(f"rows {other.name} and {row.name} are the same run; remove one of them")
        names[row.name.lower()] = digests[row.config.digest()] = row


def _list_names(rows: Sequence[Row], shown: int = 8) -> str:
    """The names of the first rows, for a message."""
    names = ", ".join(row.name for row in rows[:shown])
    return f"there are {names}{', ...' if len(rows) > shown else ''}"
