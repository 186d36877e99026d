"""Trackers: TensorBoard, Weights & Biases and MLflow get the settings, the scalars and the result of a run.

A tracker never stops a run: after its first error it is left out, with one line. Where it tracks is its own
affair: the environment variables of its package decide (WANDB_MODE, MLFLOW_TRACKING_URI...). The identity of
the tracked run is kept in `trackers.json`, so that a resumed run continues it.
"""

import importlib.util
import json
import logging
import os
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ..config.schema import Config, to_yaml
from ..config.sources import flatten
from ..core.errors import BadInput
from ..core.files import write_atomic

PROJECT = "cifar-tricks-zoo"  # of W&B and the experiment of MLflow, unless the environment names another
PATIENCE = 30  # seconds to wait for a server
AT_ONCE = 100  # parameters that a server of MLflow takes in one request
STATUS = {"ok": "FINISHED", "interrupted": "KILLED"}  # of MLflow, for that of a run; FAILED for others
METRIC = re.compile(r"(?:(?P<prefix>.+)_)?(?P<split>train|val|test)_(?P<metric>.+)")


class Tracker(Protocol):
    """One tracked run. Its methods may raise anything."""

    id: str | None  # of the tracked run, to continue it; None where its folder is enough

    def log(self, step: int, scalars: dict[str, float]) -> None:
        """Record the scalars of a step, unless they are recorded already."""

    def finish(self, result: dict[str, Any]) -> None:
        """Record the outcome: the content of `result.json`."""


class TensorBoard:
    id = None

    def __init__(self, folder: Path, config: Config, step: int, id: str | None):
        # Imported late: it takes more than a second.
        from torch.utils.tensorboard import SummaryWriter

        # A run may have been killed between its last rows and the checkpoint that it resumes from.
        self.writer = SummaryWriter(str(folder), purge_step=step + 1)
        if not step:
            self.writer.add_text("config", _code(to_yaml(config.tree())), 0)

    def log(self, step: int, scalars: dict[str, float]) -> None:
        for tag, value in scalars.items():
            self.writer.add_scalar(tag, value, step)
        self.writer.flush()

    def finish(self, result: dict[str, Any]) -> None:
        self.writer.add_text("result", _code(json.dumps(result, indent=2)), result["steps"])
        self.writer.close()


class WeightsAndBiases:
    def __init__(self, folder: Path, config: Config, step: int, id: str | None):
        import wandb

        # The console is the run's: no output is captured, and no banner is printed.
        patience = {"init_timeout": PATIENCE, "login_timeout": PATIENCE, "finish_timeout": PATIENCE}
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=id,
            resume="allow",
            name=f"{folder.absolute().parent.name}/{folder.name}",
            group=folder.absolute().parent.name,  # the seeds of one setting
            dir=folder,
            config=config.tree(),
            settings=wandb.Settings(console="off", silent=True, **patience),
        )
        self.id = self.run.id

    def log(self, step: int, scalars: dict[str, float]) -> None:
        if step >= self.run.step:  # the next step: those before it are recorded
            self.run.log(scalars, step=step)

    def finish(self, result: dict[str, Any]) -> None:
        self.run.summary["result"] = result
        self.run.finish(exit_code=0 if result["status"] == "ok" else 1)


class MLflow:
    def __init__(self, folder: Path, config: Config, step: int, id: str | None):
        # By default a server that is down is asked for many minutes. Read when the package is imported.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE))
        import mlflow
        from mlflow.entities import Metric, Param

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._metric, self.client, self.last = Metric, mlflow.MlflowClient(), 0
        if id:
            self.client.update_run(id, status="RUNNING")
            self.last = max((m.step for m in self.client.get_metric_history(id, "train/lr")), default=0)
            self.id = id
            return
        experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        tags = {"mlflow.runName": f"{folder.absolute().parent.name}/{folder.name}", "folder": str(folder)}
        self.id = self.client.create_run(experiment.experiment_id, tags=tags).info.run_id
        params = [Param(key, str(value)) for key, value in flatten(config.tree())]
        for start in range(0, len(params), AT_ONCE):
            self.client.log_batch(self.id, params=params[start : start + AT_ONCE])

    def log(self, step: int, scalars: dict[str, float]) -> None:
        if step > self.last:
            metrics = [self._metric(tag, value, _now(), step) for tag, value in scalars.items()]
            self.client.log_batch(self.id, metrics=metrics)

    def finish(self, result: dict[str, Any]) -> None:
        self.client.set_terminated(self.id, STATUS.get(result["status"], "FAILED"))
        self.client.log_dict(self.id, result, "result.json")


TRACKERS: dict[str, Callable[..., Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


def check_installed(config: Config) -> None:
    """Raise BadInput if the package of a tracker is missing."""
    for name in config.run.tracker or ():
        if importlib.util.find_spec(name) is None:
            raise BadInput(f"--tracker {name} needs its package: pip install {name}, or leave it out")


class Trackers:
    """The trackers of a run that work: none until `start`.

    Args:
        folder: the run folder.
        warn: called with a line where a tracker fails.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]):
        self.folder, self._warn = folder, warn
        self._active: dict[str, Tracker] = {}

    def start(self, config: Config, step: int) -> None:
        """Start the trackers of a configuration, at the step that the run starts or resumes at."""
        file, ids = self.folder / "trackers.json", {}
        if file.exists():
            ids = self._attempt(file.name, lambda: json.loads(file.read_text())) or {}
        for name in config.run.tracker or ():
            start = partial(TRACKERS[name], self.folder, config, step, ids.get(name))
            if tracker := self._attempt(name, start):
                self._active[name] = tracker
        found = {name: tracker.id for name, tracker in self._active.items() if tracker.id}
        if found.items() - ids.items():
            write_atomic(file, json.dumps(ids | found, indent=1) + "\n")

    def log(self, row: dict[str, Any]) -> None:
        """Record a row of `metrics.jsonl`."""
        scalars = {tag(key): value for key, value in row.items() if key != "step"}
        for name, tracker in list(self._active.items()):
            self._attempt(name, partial(tracker.log, row["step"], scalars))

    def finish(self, result: dict[str, Any]) -> None:
        """Record the content of `result.json`."""
        for name, tracker in list(self._active.items()):
            self._attempt(name, partial(tracker.finish, result))
        self._active.clear()

    def _attempt(self, name: str, action: Callable[[], Any]) -> Any:
        """What an action returns; None, a line, and no more of this tracker where it fails."""
        try:
            return action()
        except Exception as error:  # of any package, for any reason: the run goes on
            self._active.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            self._warn(f"warning: {name} is left out from here on, because it failed: {reason[:300]}")
            return None


def tag(key: str) -> str:
    """The name of a column with its group: `test/accuracy`, `test/ema_accuracy`, `time/train`, `train/lr`."""
    if found := METRIC.fullmatch(key):
        prefix = f"{found['prefix']}_" if found["prefix"] else ""
        return f"{found['split']}/{prefix}{found['metric']}"
    if key.startswith("seconds_"):
        return f"time/{key.removeprefix('seconds_')}"
    return f"train/{key}" if key in ("lr", "epoch") else f"cost/{key}"


def _code(text: str) -> str:
    """Text as a block of code in Markdown."""
    return f"```\n{text}\n```"


def _now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
