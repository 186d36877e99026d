"""The run folder: its files, its lock, and whether its run is complete.

config.yaml         every setting                  metrics.jsonl      one line per epoch
config_diff.yaml    what differs from the defaults last.pt            the newest checkpoint
env.json            code, versions and hardware    predictions.npz    logits of the last epoch
log.txt             the console output             curves.png         loss, accuracy and learning rate
events.out.*        scalars for TensorBoard        result.json        the outcome, written last

`--evaluate` adds evaluation.json and confusion.png; `--profile` trace.json.gz; W&B and MLflow trackers.json,
the identities of the tracked runs.
"""

import io
import json
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from filelock import FileLock, Timeout

from ..config.schema import NOT_HASHED, Config, to_yaml, under
from ..core.errors import BadInput
from ..core.files import write_atomic

RESULT_FORMAT = 3
COMPLETE = ("ok", "diverged")  # after other outcomes the same command resumes from the newest checkpoint


class RunFolder:
    """A folder that belongs to one configuration and, once claimed, to one process.

    Raises:
        BadInput: it holds another configuration.
    """

    def __init__(self, config: Config):
        self.config, self.path = config, config.folder()
        self._lock = FileLock(self.path / ".lock", timeout=0)
        self._check()

    def claim(self) -> None:
        """Create and lock the folder until `release` or the end of the process; write the configuration.

        Raises:
            BadInput: it cannot be written, or another process has the lock.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise BadInput(
                f"another process is training in {self.path}; wait for it, or give --output-dir"
            ) from None
        except OSError as error:
            raise BadInput(
                f"cannot write in {self.path}: {error.strerror}; give another --output-dir"
            ) from error
        self._check()  # again, because another process may have written there meanwhile
        write_atomic(self.path / "config.yaml", to_yaml(self.config.tree()))
        write_atomic(self.path / "config_diff.yaml", to_yaml(self.config.changed))

    def release(self) -> None:
        """Give the lock back, if this run has it: this process may go on and run the same command again."""
        self._lock.release()

    def _check(self) -> None:
        """Raise BadInput if the folder holds another configuration."""
        away = f"move {self.path} away, or give --output-dir"
        held = _read(self.path / "config.yaml", lambda text: _comparable(yaml.safe_load(text)), away)
        if held is None:
            return
        mine, changed = _comparable(self.config.tree()), _comparable(self.config.changed)
        # A setting that is newer than the folder has its default in both.
        added = mine.keys() - held.keys() - changed.keys()
        differs = [key for key in sorted(held | mine) if key not in added and held.get(key) != mine.get(key)]
        if differs:
            key = differs[0]
            raise BadInput(
                f"{self.path} holds another configuration ({len(differs)} settings differ, such as {key}: "
                f"{held.get(key)} there, {mine.get(key)} here); give another --output-dir or move it away"
            )

    @property
    def checkpoint(self) -> Path:
        return self.path / "last.pt"

    def result(self) -> dict[str, Any] | None:
        """The outcome, if the run is complete."""
        return read_result(self.path)

    def metrics(self, step: int, expected: int | None) -> list[dict[str, Any]]:
        """The rows of the epochs within the first `step` steps.

        Args:
            expected: their checksum, where it is known.
        Raises:
            BadInput: some are missing or changed.
        """
        remedy = f"move {self.path} away to start again"
        rows = _read(self.path / "metrics.jsonl", partial(_rows, step=step, expected=expected), remedy)
        if rows is None:
            raise BadInput(f"{self.checkpoint} exists, but {self.path / 'metrics.jsonl'} does not; {remedy}")
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
    """The run folder of a process other than the main one: nothing is written."""

    path = checkpoint = Path("run folder")

    def ignore(self, *content: Any) -> None: ...

    claim = release = write_metrics = write_predictions = write_curves = write_json = ignore


def read_result(folder: Path) -> dict[str, Any] | None:
    """The outcome of the run in a folder, if it is complete."""
    result = _read(folder / "result.json", _result, "move it away and run the command again")
    return result if result and result["status"] in COMPLETE else None


def _read(file: Path, parse: Callable[[str], Any], remedy: str) -> Any:
    """The parsed content of a file, or None if there is no such file."""
    try:
        return parse(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    # A damaged file may have any content, so `parse` may fail in any of these ways.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise BadInput(f"{file} cannot be read ({type(error).__name__}); {remedy}") from error


def _result(text: str) -> dict[str, Any]:
    """The outcome in `result.json`."""
    result = json.loads(text)
    if result["format"] > RESULT_FORMAT:  # older formats only lack a few columns
        raise ValueError(result["format"])
    return result


def checksum(rows: list[dict[str, Any]]) -> int:
    """The CRC-32 of rows of metrics, as they are in the file."""
    return zlib.crc32(json.dumps(rows).encode())


def _rows(text: str, step: int, expected: int | None) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl` up to `step`, at which the last of them must end."""
    rows = [row for row in map(json.loads, text.splitlines()) if row["step"] <= step]
    if rows[-1]["step"] != step:
        raise ValueError(rows[-1]["step"])
    if expected not in (None, checksum(rows)):
        raise ValueError("changed")
    return rows


def _comparable(tree: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys and values of a configuration, without those that do not affect what is learned."""
    flat = {f"{name}.{key}": value for name, part in tree.items() for key, value in (part or {}).items()}
    ignored = [path for path in NOT_HASHED if path != ("train", "seed")]
    return {key: value for key, value in flat.items() if not any(under(key, path) for path in ignored)}
