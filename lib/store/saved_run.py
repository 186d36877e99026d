"""What a run has left behind, read back: its configuration and its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config.schema import Config
from ..config.sources import config_of
from ..core.errors import BadInput
from .checkpoint import load, weights_file


@dataclass(frozen=True, eq=False)
class Saved:
    path: Path  # of the checkpoint
    config: Config  # what it was trained with
    weights: dict[str, Tensor]
    step: int  # how many it was trained for


def saved(path: str | Path, weights: str = "last") -> Saved:
    """The weights in a run folder or checkpoint, with the configuration that they were trained with.

    Args:
        weights: "last" for those of the last step, or the name of an average.
    Raises:
        BadInput: there is no such checkpoint, it is damaged, or has no such average.
    """
    file = weights_file(Path(path))
    state = load(file)
    return Saved(file, config_of(state["config"], str(file)), _weights(state, weights, file), state["step"])


def _weights(state: dict[str, Any], name: str, file: Path) -> dict[str, Tensor]:
    if name == "last":
        return state["model"]
    if name not in state["averages"]:
        held = ", ".join(["last", *state["averages"]])
        raise BadInput(f"{file} holds no average {name!r} of its weights; it holds {held}")
    return state["averages"][name]
