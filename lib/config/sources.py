"""Sources of settings: key-value pairs, saved configurations and YAML files become layers of settings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import yaml

from ..core.errors import BadInput, nearest
from . import habits
from .compose import Layer, Setting, compose
from .schema import SECTIONS, Config
from .spelling import path_of


def config_of(tree: dict[str, Any], source: str) -> Config:
    """The configuration that was saved as `tree`; `source` names its file in messages."""
    return compose([layer_of([(key, value, key) for key, value in flatten(tree)], source)])


Pair = tuple[str, Any, str]  # a key, its value, and the key as spelled


def layer_of(pairs: list[Pair], source: str, given: habits.Given | None = None) -> Layer:
    """The settings of one source.

    Args:
        given: all settings, of which a spelling of another project may depend; default: those of the source.
    """
    given = habits.given_by(pairs) if given is None else given
    return [
        (path, Setting(value, spelled, source))
        for pair in pairs
        for path, value in _rewritten(pair, source, given).settings
        for spelled in [pair[2]]
    ]


def layers_of(sources: list[tuple[list[Pair], str]], notes: list[str]) -> list[Layer]:
    """The settings of several sources; `notes` receives how spellings of other projects were read."""
    given = habits.given_by(pair for pairs, _ in sources for pair in pairs)
    for pairs, source in sources:
        notes += _notes(pairs, source, given)
    return [layer_of(pairs, source, given) for pairs, source in sources]


class _Rewritten(NamedTuple):
    settings: list[tuple[tuple[str, ...], Any]]
    reason: str  # why there is none


def _rewritten(pair: Pair, source: str, given: habits.Given) -> _Rewritten:
    key, value, spelled = pair
    try:
        ours, reason = habits.rewrite(key, value, given)
        return _Rewritten([(path_of(name), setting) for name, setting in ours], reason)
    except ValueError as error:
        raise BadInput(f"{spelled} ({source}): {error}") from error


def _notes(pairs: list[Pair], source: str, given: habits.Given) -> list[str]:
    """One note on the settings of other projects, and one for each reason why some set nothing."""
    read: list[str] = []
    idle: dict[str, list[str]] = {}
    for pair in pairs:
        key, value, spelled = pair
        found = _rewritten(pair, source, given)
        if not found.settings:
            idle.setdefault(found.reason, []).append(spelled)
        elif habits.is_known(key) or [str(setting) for _, setting in found.settings] != [str(value)]:
            ours = ", ".join(f"{'.'.join(path)} {setting}" for path, setting in found.settings)
            read.append(f"{spelled if value is True else f'{spelled} {value}'} is {ours}")
    return [
        *([f"settings of other projects ({source}): {'; '.join(read)}"] if read else []),
        *(f"no effect of {', '.join(keys)} ({source}): {reason}" for reason, keys in idle.items()),
    ]


class _TextLoader(yaml.SafeLoader):
    """YAML with all scalars read as text, as on a command line; each setting then converts its own.

    By itself YAML 1.1 reads 010 as 8, 1:30 as 90 and 1e-3 as text. Only nothing at all is None. A duplicate
    key is an error; PyYAML would silently keep the last one.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: yaml.SafeLoader.yaml_implicit_resolvers[first]
        for first in ("", "<")  # <<: the merge key
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} was given twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> list[tuple[str, Any]]:
    """The keys, dotted, and values of a YAML file."""
    return list(flatten(read_tree(path, "--config ")))


def read_tree(path: Path, flag: str = "") -> dict[str, Any]:
    """What a YAML file holds; `flag` is what the user wrote before its name."""
    try:
        tree = yaml.load(path.read_text(), _TextLoader) or {}
    except FileNotFoundError:
        known = [str(p) for p in Path("configs").rglob("*.yaml")]
        close = nearest(str(path), known) or "no file of that name"
        raise BadInput(f"{flag}{path}: there is no such file; {close}") from None
    except OSError as error:
        raise BadInput(f"{flag}{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not text
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise BadInput(
            f"{flag}{path}{where}: {getattr(error, 'problem', None) or 'not a YAML file'}"
        ) from error
    if not isinstance(tree, dict):
        raise BadInput(f"{flag}{path}: expected settings as key: value, got {type(tree).__name__}")
    return tree


def flatten(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys, dotted, and values of a tree of settings."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        elif value != {} or key not in SECTIONS:  # a section with nothing in it sets nothing
            yield f"{prefix}{key}", True if value == {} else value
