"""Weights in files of this and of other programs, matched to the tensors of a model by their names."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.errors import BadInput
from ..data.base import DataSpec
from .checkpoint import KEYS, file_of, load_any

Tensors = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights in a file, under the names of a model as far as they have one."""

    path: Path
    entry: str  # where in the file they are, such as `model`; "" for the file itself
    tensors: Tensors
    data: DataSpec | None  # what they were trained on, if this program saved them


def read_weights(path: str | Path, mine: Tensors) -> Weights:
    """The weights in a run folder, a checkpoint, a bare or nested state dict, or a safetensors file.

    Args:
        mine: the tensors of the model that they are for. Of several state dicts the one that has the most of
            their names is taken. Prefixes such as `module.` or `_orig_mod.` are removed or added.
    Raises:
        BadInput: there is no such file, or it cannot be read, or has no tensors.
    """
    file = file_of(path)
    content = load_any(file)
    found = []  # of equally good ones, the least deep in the file is taken, and then the first
    for entry, theirs in _state_dicts(content):
        tensors = _renamed(theirs, mine)
        found.append((len(tensors.keys() & mine.keys()), -entry.count("."), entry, tensors))
    if not found:
        raise BadInput(f"{file} holds no weights: it has no dictionary of names and tensors")
    _, _, entry, tensors = max(found, key=lambda each: each[:2])
    own = content.keys() >= {*KEYS, "data"}
    data = DataSpec(**content["data"]) if own else None
    return Weights(file, entry, tensors, data)


def _state_dicts(content: Any, entry: str = "") -> Iterator[tuple[str, Tensors]]:
    """Every dictionary of names and tensors within `content`, with the keys that lead to it."""
    if not isinstance(content, Mapping):
        return
    if tensors := {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}:
        yield entry, tensors
    for key, value in content.items():
        yield from _state_dicts(value, f"{entry}.{key}" if entry else str(key))


def _renamed(theirs: Tensors, mine: Tensors) -> Tensors:
    """Their tensors with the prefix removed or added that gives the most of my names."""
    candidates = [
        {name[len(prefix) :]: value for name, value in theirs.items() if name.startswith(prefix)}
        for prefix in _prefixes(theirs)
    ]
    candidates += [{prefix + name: value for name, value in theirs.items()} for prefix in _prefixes(mine)]
    return max(candidates, key=lambda tensors: len(tensors.keys() & mine.keys()))


def _prefixes(names: Iterable[str]) -> dict[str, None]:
    """The empty one, and all parts of the names up to a dot, in order."""
    parts = [name.split(".")[:-1] for name in names]
    joined = [".".join([*part[:end], ""]) for part in parts for end in range(1, len(part) + 1)]
    return dict.fromkeys(["", *joined])
