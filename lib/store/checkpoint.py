"""Checkpoints: everything that resume needs, and nothing that is a function of (seed, step)."""

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.errors import BadInput
from ..core.files import write_atomic
from ..engine.step import Run

FORMAT = 1
KEYS = {"format", "step", "config", "model", "optimizer", "averages", "scale", "best", "code"}


def save(
    path: Path, run: Run, step: int, config: dict[str, Any], best: dict[str, Any] | None, code: str
) -> None:
    """Write the state after `step` steps; the earlier checkpoint stays until this one is whole."""
    state = {
        "optimizer": run.optimizer.state_dict(),
        "averages": {name: average.state_dict() for name, average in run.averages.items()},
        "scale": run.learning.scaler.state_dict(),
        "selections": {name: s.learning.state_dict() for name, s in run.selections.items()},
        "best": best,
    }
    write(path, run.model.state_dict(), step, config, code, state)


def write(
    path: Path,
    weights: dict[str, torch.Tensor],
    step: int,
    config: dict[str, Any],
    code: str,
    state: dict[str, Any] | None = None,
) -> None:
    """Write weights, and what a run needs beside them to go on; without, no run can resume from them."""
    beside = state or {"optimizer": {}, "averages": {}, "scale": {}, "best": None}
    whole = {"format": FORMAT, "step": step, "config": config, "model": weights, **beside, "code": code}
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; pickled code is never run.

    Raises:
        BadInput: there is none, or it is corrupt or of another program.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's guesses at a foreign file: the error below says enough
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadInput(f"there is no checkpoint {path}") from None
    except Exception as error:  # torch raises half a dozen types for bytes that it cannot read
        raise BadInput(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}); {_REMEDY}"
        ) from error
    if not isinstance(state, dict) or not state.keys() >= KEYS:
        raise BadInput(f"{path} is no checkpoint of this program; {_REMEDY}")
    if state["format"] != FORMAT:
        raise BadInput(f"{path} has format {state['format']}, this version reads {FORMAT}; {_REMEDY}")
    return state


_REMEDY = "move it away to start anew, or put a whole one in its place"


def restore(run: Run, state: dict[str, Any], path: Path) -> None:
    """Put the run where the checkpoint was taken."""
    load_weights(run.model, state["model"], path)
    try:
        run.optimizer.load_state_dict(state["optimizer"])
        for name, average in run.averages.items():
            average.load_state_dict(state["averages"][name])
        run.learning.scaler.load_state_dict(state["scale"])
        for name, selection in run.selections.items():
            selection.learning.load_state_dict(state["selections"][name])
    except (KeyError, ValueError, RuntimeError) as error:
        raise BadInput(f"{path} does not belong to this run ({error}); {_REMEDY}") from error


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Load weights that must fit exactly."""
    mine = model.state_dict()
    wrong = [key for key in mine.keys() | weights.keys() if key not in mine or key not in weights]
    wrong += [key for key in mine.keys() & weights.keys() if mine[key].shape != weights[key].shape]
    if wrong:
        raise BadInput(
            f"the weights in {path} are another model's: {len(wrong)} of {len(mine)} tensors do not fit, "
            f"{min(wrong)!r} for one; give the --model they were trained with"
        )
    model.load_state_dict(weights)


def weights_file(path: Path) -> Path:
    """The checkpoint that `path`, a run folder or a checkpoint, stands for."""
    return path / "last.pt" if path.is_dir() else path
