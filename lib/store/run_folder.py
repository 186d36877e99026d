"""The run folder: who writes in it, what it holds, and whether the run in it is complete.

config.yaml         every setting                  metrics.jsonl      one line per epoch
config_diff.yaml    what differs from the defaults last.pt            the newest checkpoint
env.json            code, versions and hardware    predictions.npz    logits of the last epoch
log.txt             the console's lines            curves.png         loss, accuracy and learning rate
events.out.*        TensorBoard's scalars          result.json        the outcome, written last

And of `--evaluate`, whenever it was asked for: evaluation.json and confusion.png.
"""

import fcntl
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..config.schema import NOT_HASHED, Config, to_yaml, under
from ..core.errors import BadInput
from ..core.files import write_atomic

RESULT_FORMAT = 2
COMPLETE = ("ok", "diverged")  # other outcomes: the same command goes on from the newest checkpoint


class RunFolder:
    """A folder that belongs to one configuration and, once claimed, to one process.

    Raises:
        BadInput: it holds another configuration.
    """

    def __init__(self, config: Config):
        self.config, self.path = config, config.folder()
        self._check()

    def claim(self) -> None:
        """Make the folder and write the configuration; from here on no other process may train in it.

        Raises:
            BadInput: it cannot be written, or another process has it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # Held until the process ends, however it ends.
            self._lock = open(self.path / ".lock", "w")  # noqa: SIM115
        except OSError as error:
            raise BadInput(
                f"cannot write in {self.path}: {error.strerror}; give another --output-dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(
                f"another process is training in {self.path}; wait for it, or give --output-dir"
            ) from None
        self._check()  # again: since the first time, another process may have been here
        write_atomic(self.path / "config.yaml", to_yaml(self.config.tree()))
        write_atomic(self.path / "config_diff.yaml", to_yaml(self.config.changed))

    def _check(self) -> None:
        """Refuse a folder that holds another configuration."""
        away = f"move {self.path} away, or give --output-dir"
        held = _read(self.path / "config.yaml", lambda text: _comparable(yaml.safe_load(text)), away)
        if held is None:
            return
        mine, changed = _comparable(self.config.tree()), _comparable(self.config.changed)
        # A setting that was added since the folder was written is at its default in both.
        added = mine.keys() - held.keys() - changed.keys()
        differs = [key for key in sorted(held | mine) if key not in added and held.get(key) != mine.get(key)]
        if differs:
            key = differs[0]
            raise BadInput(
                f"{self.path} holds another configuration ({len(differs)} settings differ, as {key}: "
                f"{held.get(key)} there, {mine.get(key)} here); give another --output-dir or move it away"
            )

    @property
    def checkpoint(self) -> Path:
        return self.path / "last.pt"

    def result(self) -> dict[str, Any] | None:
        """The outcome, if the run is complete."""
        return read_result(self.path)

    def metrics(self, step: int) -> list[dict[str, Any]]:
        """The epochs that ended within the first `step` steps.

        Raises:
            BadInput: they are not all there.
        """
        remedy = f"move {self.path} away to start anew"
        rows = _read(self.path / "metrics.jsonl", partial(_rows, step=step), remedy)
        if rows is None:
            raise BadInput(f"{self.checkpoint} is there but metrics.jsonl beside it is not; {remedy}")
        return rows

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        write_atomic(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def write_predictions(self, arrays: dict[str, np.ndarray]) -> None:
        """(N, K) logits of the last epoch and (N,) labels."""
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomic(self.path / "predictions.npz", buffer.getvalue())

    def write_curves(self, png: bytes) -> None:
        write_atomic(self.path / "curves.png", png)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        write_atomic(self.path / name, json.dumps(content, indent=2) + "\n")


class NullRunFolder:
    """Stands for the folder in a process that leaves it to the first one: it is never written to."""

    path = checkpoint = Path("run folder")

    def ignore(self, *content: Any) -> None: ...

    claim = write_metrics = write_predictions = write_curves = write_json = ignore


def read_result(folder: Path) -> dict[str, Any] | None:
    """The outcome of the run in a folder, if it is complete."""
    result = _read(folder / "result.json", _result, "move it away and run the command again")
    return result if result and result["status"] in COMPLETE else None


def _read(file: Path, parse: Callable[[str], Any], remedy: str) -> Any:
    """What a file of the folder holds, or None where there is none."""
    try:
        return parse(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    # What stands in the file may be of any shape, so `parse` may stumble in any of these ways.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise BadInput(f"{file} cannot be read ({type(error).__name__}); {remedy}") from error


def _result(text: str) -> dict[str, Any]:
    """The outcome in `result.json`."""
    result = json.loads(text)
    if result["format"] > RESULT_FORMAT:  # older ones lack a few columns, which is no harm
        raise ValueError(result["format"])
    return result


def _rows(text: str, step: int) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl` up to `step`, where the last of them must end."""
    rows = [row for row in map(json.loads, text.splitlines()) if row["step"] <= step]
    if rows[-1]["step"] != step:
        raise ValueError(rows[-1]["step"])
    return rows


def _comparable(tree: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys and values of a configuration, less those that change nothing of what is learned."""
    flat = {f"{name}.{key}": value for name, part in tree.items() for key, value in (part or {}).items()}
    ignored = [path for path in NOT_HASHED if path != ("train", "seed")]
    return {key: value for key, value in flat.items() if not any(under(key, path) for path in ignored)}
