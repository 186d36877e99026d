"""The run folder: who writes in it, what it holds, and whether the run in it is complete.

config.yaml         every setting                  metrics.jsonl      one line per epoch
config_diff.yaml    what differs from the defaults last.pt            the newest checkpoint
env.json            code, versions and hardware    predictions.npz    logits of the last epoch
log.txt             the console's lines            curves.png         loss, accuracy and learning rate
events.out.*        TensorBoard's scalars          result.json        the outcome, written last
"""

import fcntl
import io
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from lib.config import NOT_HASHED, Config, to_yaml
from lib.errors import BadInput
from lib.files import write_atomic

PACKAGES = ("torch", "torchvision", "timm", "numpy")


class RunFolder:
    """A folder that belongs to one configuration and one process.

    Raises:
        BadInput: it cannot be written, another process has it, or it holds another configuration.
    """

    def __init__(self, config: Config):
        self.path = config.folder()
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
        self._claim(config)

    def _claim(self, config: Config) -> None:
        """Write the configuration, unless the folder holds a different one."""
        file = self.path / "config.yaml"
        if file.exists():
            try:
                held = _comparable(yaml.safe_load(file.read_text()))
            except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
                raise BadInput(
                    f"{file} cannot be read; move {self.path} away, or give --output-dir"
                ) from error
            mine = _comparable(config.tree())
            differs = [key for key in sorted(held | mine) if held.get(key) != mine.get(key)]
            if differs:
                key = differs[0]
                raise BadInput(
                    f"{self.path} holds another configuration ({len(differs)} settings differ, as {key}: "
                    f"{held.get(key)} there, {mine.get(key)} here); give another --output-dir or move it away"
                )
        write_atomic(file, to_yaml(config.tree()))
        write_atomic(self.path / "config_diff.yaml", to_yaml(config.changed))

    @property
    def checkpoint(self) -> Path:
        return self.path / "last.pt"

    def result(self) -> dict[str, Any] | None:
        """The outcome, if the run is complete."""
        return self._read_json("result.json")

    def metrics(self, step: int) -> list[dict[str, Any]]:
        """The epochs that ended within the first `step` steps."""
        file = self.path / "metrics.jsonl"
        try:
            rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{file} cannot be read; move {self.path} away to start anew") from error
        return [row for row in rows if row["step"] <= step]

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

    def _read_json(self, name: str) -> dict[str, Any] | None:
        file = self.path / name
        try:
            return json.loads(file.read_text()) if file.exists() else None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise BadInput(f"{file} cannot be read; move it away and run the command again") from error


def _comparable(tree: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys and values of a configuration, less those that change nothing of what is learned."""
    flat = {f"{name}.{key}": value for name, part in tree.items() for key, value in (part or {}).items()}
    ignored = [path for path in NOT_HASHED if path != ("train", "seed")]
    return {key: value for key, value in flat.items() if not any(_under(key, path) for path in ignored)}


def _under(key: str, path: tuple[str, ...]) -> bool:
    return key == ".".join(path) or key.startswith(".".join(path) + ".")


def environment(device: torch.device) -> dict[str, Any]:
    """What the numbers of a run depend on beside its configuration."""
    return {
        "code": code_version(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def code_version() -> str:
    """The commit of the code, marked where files differ from it; "unknown" outside a git checkout."""
    root = Path(__file__).parent.parent
    try:
        git = ["git", "-C", str(root)]
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        status = [*git, "status", "--porcelain", "--", "lib", "train.py"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit[:12]}{'+changes' if changed else ''}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
