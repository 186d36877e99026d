"""Checkpoints: everything that a run needs to resume, and nothing that is a function of (seed, step)."""

import io
from argparse import Namespace
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..config.schema import Config
from ..config.sources import config_of
from ..core.errors import BadInput
from ..core.files import load_archive, write_atomic
from ..data.base import DataSpec
from ..engine.step import Run

FORMAT = 1
KEYS = {"format", "step", "config", "model", "optimizer", "averages", "scale", "best", "code"}


def save(
    path: Path,
    run: Run,
    step: int,
    config: dict[str, Any],
    best: dict[str, Any] | None,
    code: str,
    **checks: Any,
) -> None:
    """Write the state after `step` steps; the earlier checkpoint stays until this one is complete.

    Args:
        checks: what must not change before the run resumes, as `Checkpoint.checks` has it.
    """
    state = {
        "checks": checks,
        "optimizer": run.optimizer.state_dict(),
        "averages": {name: average.state_dict() for name, average in run.averages.items()},
        "scale": run.learning.scaler.state_dict(),
        "selections": {name: s.learning.state_dict() for name, s in run.selections.items()},
        "best": best,
    }
    write(path, run.model.state_dict(), step, config, code, run.spec, run.total, state)


def write(
    path: Path,
    weights: dict[str, torch.Tensor],
    step: int,
    config: dict[str, Any],
    code: str,
    data: DataSpec,
    total: int,
    state: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint; without `state` it holds weights only, and no run can resume from it."""
    state = state or {"optimizer": {}, "averages": {}, "scale": {}, "best": None}
    state |= {"format": FORMAT, "step": step, "total": total, "config": config, "model": weights}
    buffer = io.BytesIO()
    torch.save(state | {"data": asdict(data), "code": code}, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file; pickled code is never run.

    Raises:
        BadInput: there is none, or it is damaged or of another program.
    """
    state = load_any(path)
    if not isinstance(state, dict) or not state.keys() >= KEYS:
        raise BadInput(f"{path} is not a checkpoint of this program; {_REMEDY}")
    if state["format"] != FORMAT:
        raise BadInput(f"{path} has format {state['format']}, this version reads {FORMAT}; {_REMEDY}")
    return state


def load_any(path: Path) -> Any:
    """The content of a file of torch.save or of safetensors, of any program.

    Raises:
        BadInput: there is none, or it is damaged.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals(list(HARMLESS)):
            return load_archive(path)
    except FileNotFoundError:
        raise BadInput(f"there is no checkpoint {path}") from None
    except Exception as error:  # torch and safetensors raise many types for bytes that they cannot read
        raise BadInput(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}); {_REMEDY}"
        ) from error


# What other programs save with the weights: timm its arguments, many scripts an accuracy of numpy.
HARMLESS = (Namespace, np.dtype, np.ndarray, np._core.multiarray.scalar, type(np.dtype(np.float64)))

_REMEDY = "move it away to start again, or replace it by an undamaged one"


def file_of(run: str | Path) -> Path:
    """The checkpoint of a run folder, or the file itself.

    Raises:
        BadInput: there is none.
    """
    file = Path(run) / "last.pt" if Path(run).is_dir() else Path(run)
    if not file.exists():
        raise BadInput(f"there is no checkpoint {file}")
    return file


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The checkpoint of a run, or of a soup of runs, as others load it."""

    path: Path
    state: dict[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> "Checkpoint":
        """The checkpoint in a run folder or file.

        Raises:
            BadInput: there is none, or it is damaged or of another program.
        """
        file = file_of(path)
        return cls(file, load(file))

    @property
    def step(self) -> int:
        """Steps that its weights were trained for."""
        return self.state["step"]

    @property
    def total(self) -> int | None:
        """Steps in the whole budget of its run; None where an earlier version wrote it."""
        return self.state.get("total")

    @property
    def data(self) -> DataSpec | None:
        """What the network needs to know of its data set; None where an earlier version wrote it."""
        return DataSpec(**self.state["data"]) if "data" in self.state else None

    @property
    def checks(self) -> dict[str, Any]:
        """`origin` is what its run depends on besides its configuration, by name; `rows` is the checksum of
        its metrics. Empty in earlier versions."""
        return self.state.get("checks", {})

    @property
    def code(self) -> str:
        """The version of the code that wrote it."""
        return self.state["code"]

    @property
    def averages(self) -> dict[str, dict[str, torch.Tensor]]:
        """The averages of the weights, by name."""
        return self.state["averages"]

    @cached_property
    def config(self) -> Config:
        """The configuration that it was trained with."""
        return config_of(self.state["config"], str(self.path))

    def weights(self, name: str = "last") -> dict[str, torch.Tensor]:
        """The weights of the last step, or an average of them by its name.

        Raises:
            BadInput: there is no such average.
        """
        if name == "last":
            return self.state["model"]
        if name not in self.averages:
            names = ", ".join(["last", *self.averages])
            raise BadInput(f"{self.path} has no average {name!r} of its weights; it has {names}")
        return self.averages[name]

    def load_into(self, model: nn.Module, name: str = "last") -> None:
        """Load its weights, or an average of them, into a model.

        Raises:
            BadInput: they are the weights of another model.
        """
        load_weights(model, self.weights(name), self.path)


def restore(run: Run, state: dict[str, Any], path: Path) -> None:
    """Restore the state of a run from a checkpoint."""
    load_weights(run.model, state["model"], path)
    try:
        run.optimizer.load_state_dict(state["optimizer"])
        for name, average in run.averages.items():
            average.load_state_dict(state["averages"][name])
        run.learning.scaler.load_state_dict(state["scale"])
        for name, selection in run.selections.items():
            selection.learning.load_state_dict(state["selections"][name])
    except BadInput:
        raise
    except (KeyError, ValueError, RuntimeError) as error:
        raise BadInput(f"{path} does not belong to this run ({error}); {_REMEDY}") from error


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Load weights that must fit exactly.

    Raises:
        BadInput: names or shapes differ.
    """
    mine = model.state_dict()
    wrong = [key for key in mine.keys() | weights.keys() if key not in mine or key not in weights]
    wrong += [key for key in mine.keys() & weights.keys() if mine[key].shape != weights[key].shape]
    if wrong:
        raise BadInput(
            f"the weights in {path} are another model's: {len(wrong)} of {len(mine)} tensors do not fit, "
            f"such as {min(wrong)!r}; give the --model they were trained with"
        )
    model.load_state_dict(weights)
