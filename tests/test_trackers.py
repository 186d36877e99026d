"""Trackers of a run: TensorBoard, W&B and MLflow by their own readers, and one that fails in every way."""

import gzip
import importlib.util
import json
import struct
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train
from lib.config.settings import RunSettings
from lib.core.contracts import alternatives
from lib.run import fit
from lib.run.trackers import TRACKERS, tag

pytestmark = pytest.mark.usefixtures("undrawn")


def rows(folder: str = "run") -> list[dict]:
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


def result(folder: str = "run") -> dict:
    return json.loads(Path(folder, "result.json").read_text())


def stop_after(monkeypatch, steps: int) -> None:
    """Let the next training end like Ctrl-C after this number of steps."""
    taken, step = [], fit.train_step

    def counted(*arguments):
        if len(taken) == steps:
            raise KeyboardInterrupt
        taken.append(arguments)
        return step(*arguments)

    monkeypatch.setattr(fit, "train_step", counted)


def interrupted(monkeypatch, tiny: str, line: str) -> None:
    """Train three epochs of four steps; the second one is trained, and its row recorded, twice."""
    words = ["--config", tiny, "--epochs", "3", "--output-dir", "run", *line.split()]
    for steps, every in ((4, "1"), (7, "9")):  # 7 steps after the checkpoint of the first epoch
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            assert train.main([*words, "--save-every", every]) == 130
    assert train.main(words) == 0


def test_every_tracker_can_be_named_in_the_settings_and_no_other():
    names, _ = alternatives(RunSettings.__annotations__["tracker"])
    assert typing.get_args(typing.get_args(names)[0]) == tuple(TRACKERS)


@pytest.mark.parametrize(
    ("key", "name"),
    {
        "lr": "train/lr",
        "epoch": "train/epoch",
        "train_loss": "train/loss",
        "test_accuracy": "test/accuracy",
        "ema_tta_flip_test_accuracy": "test/ema_tta_flip_accuracy",
        "val_top5": "val/top5",
        "seconds_train": "time/train",
        "images_per_second": "cost/images_per_second",
    }.items(),
)
def test_scalars_are_grouped_by_what_they_measure(key, name):
    assert tag(key) == name


def test_tensorboard_has_every_row_once_after_an_interruption(tiny, monkeypatch):
    interrupted(monkeypatch, tiny, "--tracker tensorboard")
    events = EventAccumulator("run").Reload()
    for key in ("train_loss", "test_accuracy", "lr"):
        found = [(event.step, event.value) for event in events.Scalars(tag(key))]
        assert found == [(row["step"], pytest.approx(row[key], rel=1e-6)) for row in rows()]
    for name, part in (("config", "batch_size: 16"), ("result", f'"config": "{result()["config"]}"')):
        assert part in events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()


def test_older_spellings_of_the_tensorboard_setting_still_work(tiny):
    for line in ("--no-tensorboard", "--tensorboard false", "run.tensorboard=false", "--tracker none"):
        assert train.main(["--config", tiny, "--epochs", "1.2", "--output-dir", "run", *line.split()]) == 0
        assert not list(Path("run").glob("events*"))
        for file in Path("run").iterdir():
            file.unlink()


class Broken:
    """A tracker that fails in one of its methods."""

    id = None

    def __init__(self, fails: str, *_):
        self.fails = fails
        self.fail("start")

    def fail(self, where: str) -> None:
        if where == self.fails:
            raise ConnectionError(f"no route\nto {where}")

    def log(self, *_):
        self.fail("log")

    def finish(self, *_):
        self.fail("finish")


@pytest.mark.parametrize("fails", ["start", "log", "finish"])
def test_a_tracker_that_fails_costs_one_line_and_nothing_else(tiny, monkeypatch, capsys, fails):
    monkeypatch.setitem(TRACKERS, "wandb", lambda *arguments: Broken(fails))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    assert train.main(["--config", tiny, "--tracker", "wandb,tensorboard", "--output-dir", "run"]) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert warnings == [f"warning: wandb is left out from here on, because it failed: no route to {fails}"]
    assert len(EventAccumulator("run").Reload().Scalars("test/accuracy")) == 2
    assert result()["status"] == "ok"


def test_damaged_identities_of_tracked_runs_cost_one_line(tiny, capsys):
    Path("run").mkdir()
    Path("run/trackers.json").write_text('{"wandb": ')
    assert train.main(["--config", tiny, "--output-dir", "run"]) == 0
    assert capsys.readouterr().out.count("trackers.json is left out") == 1


@pytest.mark.parametrize("what", ["", "--dry-run"])
def test_a_tracker_that_is_not_installed_is_refused_before_the_training(refused, monkeypatch, what):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(f"--tracker mlflow {what}", "--tracker mlflow", "pip install mlflow")


def test_an_unknown_tracker_is_refused_with_the_known_ones(refused):
    refused("--tracker tensorbord", "--tracker", "tensorboard, wandb, mlflow")


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("mlflow"), reason="mlflow is not installed")
def test_mlflow_has_settings_every_row_once_and_the_result_after_an_interruption(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    interrupted(monkeypatch, tiny, "--tracker mlflow")
    import mlflow

    client = mlflow.MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "cifar-tricks-zoo"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params["train.batch_size"] == "16" and run.info.status == "FINISHED"
    for key in ("train_loss", "test_accuracy"):
        history = client.get_metric_history(run.info.run_id, tag(key))
        found = [(metric.step, metric.value) for metric in history]
        assert found == [(row["step"], pytest.approx(row[key])) for row in rows()]
    assert json.loads(Path("run/trackers.json").read_text()) == {"mlflow": run.info.run_id}
    assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/result.json") == result()


def leveldb_records(data: bytes) -> list[bytes]:
    """The records of a log of LevelDB: blocks of 32 KiB; parts of records, each with CRC, length and kind."""
    found, place = [b""], 7  # after the header of the file
    while place + 7 <= len(data):
        if (rest := -place % 32_768) < 7:  # the end of a block is too short for a part
            place += rest
        size, kind = struct.unpack_from("<HB", data, place + 4)
        found[-1] += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(b"")
    return found[:-1]


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("wandb"), reason="wandb is not installed")
def test_wandb_offline_has_settings_rows_and_the_result_of_one_tracked_run(tiny, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    interrupted(monkeypatch, tiny, "--tracker wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    found, ids, summary, settings = {}, set(), {}, {}
    for file in sorted(Path("run/wandb").glob("offline-run-*/*.wandb")):
        for data in leveldb_records(file.read_bytes()):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "run":
                ids.add(record.run.run_id)
                settings |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            for item in record.history.item:
                key = item.key or "/".join(item.nested_key)
                found.setdefault(key, {})[record.history.step.num] = json.loads(item.value_json)
            for item in record.summary.update:
                summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    assert ids == {json.loads(Path("run/trackers.json").read_text())["wandb"]}
    assert settings["train"]["batch_size"] == 16
    for key in ("train_loss", "test_accuracy"):
        assert found[tag(key)] == {row["step"]: pytest.approx(row[key]) for row in rows()}
    assert summary["result"]["test_accuracy"] == result()["test_accuracy"]


def test_a_profile_traces_ten_steps_and_changes_no_weight(tiny, capsys):
    for folder, flag in (("plain", "--no-profile"), ("run", "--profile")):
        line = f"--epochs 5 --tracker none --output-dir {folder} {flag}"
        assert train.main(["--config", tiny, *line.split()]) == 0
    weights = [torch.load(f"{folder}/last.pt", weights_only=True)["model"] for folder in ("plain", "run")]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])
    events = json.loads(gzip.decompress(Path("run/trace.json.gz").read_bytes()))["traceEvents"]
    steps = {event["name"] for event in events if str(event.get("name")).startswith("ProfilerStep")}
    assert steps == {f"ProfilerStep#{step}" for step in range(7, 17)}
    # Each of the 10 steps has a backward pass of the 19 convolutions of a ResNet-20.
    backward = sum(event.get("name") == "ConvolutionBackward0" for event in events)
    assert backward >= 190
    out = capsys.readouterr().out
    table = out[out.index("operation (10 steps)") :].split("\n\n")[0].splitlines()
    shares = [float(line.split()[-1]) for line in table[1:16]]
    assert shares == sorted(shares, reverse=True) and 50 < np.sum(shares) <= 100.1
    assert "trace: run/trace.json.gz" in out


def test_a_run_of_too_few_steps_says_that_it_has_no_trace(tiny, capsys):
    assert train.main(["--config", tiny, "--epochs", "1.5", "--profile", "--output-dir", "run"]) == 0
    assert "--profile needs more than 7 steps" in capsys.readouterr().out
    assert not Path("run/trace.json.gz").exists()
