"""`--evaluate RUN`, and the metrics in the record of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import train
from lib.engine.metrics import calibration_error


def test_the_record_has_top_five_and_calibration_error_of_the_last_epoch(tiny):
    line = "--data.classes 10 --ema --val 0.25 --output-dir run"
    assert train.main(["--config", tiny, *line.split()]) == 0
    with open("run/result.json") as file:
        result = json.load(file)
    with np.load("run/predictions.npz") as arrays:
        predicted = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for prefix in ("", "ema_"):
        best = predicted[f"{prefix}logits"].argsort(1, descending=True)[:, :5]
        hits = [int(k) in row for k, row in zip(predicted["y"], best.tolist(), strict=True)]
        assert result[f"{prefix}test_top5"] == pytest.approx(100 * sum(hits) / len(hits))
        error = calibration_error(predicted[f"{prefix}logits"], predicted["y"])
        assert result[f"{prefix}test_ece"] == pytest.approx(error)
        assert f"{prefix}val_top5" in result
    with open("run/metrics.jsonl") as file:
        first, last = map(json.loads, file)
    assert not [key for key in first if key.endswith(("top5", "ece"))]
    assert last["test_ece"] == result["test_ece"]


def test_evaluating_a_run_reproduces_its_record(run, capsys):
    result = json.loads((run / "result.json").read_text())
    assert train.main(["--evaluate", "run", "--device", "cpu", "--tta-shifts"]) == 0
    text = capsys.readouterr().out
    report = json.loads((run / "evaluation.json").read_text())
    names = {"last": "", "ema": "ema_", "tta_flip": "tta_flip_", "ema_tta_flip": "ema_tta_flip_"}
    assert report["networks"].keys() == {*names, "tta_shifts", "ema_tta_shifts"}  # and the added view
    for name, prefix in names.items():
        for split in ("val", "test"):
            found = report["networks"][name][split]
            for key in ("accuracy", "loss", "top5", "ece"):
                assert found[key] == pytest.approx(result[f"{prefix}{split}_{key}"], rel=1e-6)
            assert found["recorded_accuracy"] == found["accuracy"]
    assert report["networks"]["tta_shifts"]["test"]["recorded_accuracy"] is None
    assert f"{result['test_accuracy']:.2f}" in text and "points off" not in text


def test_the_temperature_is_fitted_on_held_out_images(run, capsys):
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 0
    assert "held-out images" in capsys.readouterr().out
    test = json.loads((run / "evaluation.json").read_text())["networks"]["last"]["test"]
    assert test["scaled"]["fitted_on"] == "val" and "oracle_scaled" not in test


def test_a_temperature_fitted_on_test_images_is_labelled_an_oracle(tiny, capsys):
    assert train.main(["--config", tiny, "--output-dir", "run"]) == 0
    assert train.main(["--evaluate", "run"]) == 0
    assert "oracle" in capsys.readouterr().out
    test = json.loads(Path("run/evaluation.json").read_text())["networks"]["last"]["test"]
    assert test["oracle_scaled"]["fitted_on"] == "test" and "scaled" not in test
    with np.load("run/predictions.npz") as arrays:
        logits, y = arrays["logits"].astype(np.float64), arrays["y"]
    logits /= test["oracle_scaled"]["temperature"]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert test["oracle_scaled"]["loss"] == pytest.approx(-log_p[np.arange(len(y)), y].mean())
    assert test["oracle_scaled"]["loss"] <= test["loss"]


def test_class_accuracy_and_confusion_agree_with_the_predictions(run, capsys):
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 0
    test = json.loads((run / "evaluation.json").read_text())["networks"]["ema"]["test"]
    with np.load(run / "predictions.npz") as arrays:
        guess, y = arrays["ema_logits"].argmax(1), arrays["y"]
    counts = [[int(((y == true) & (guess == k)).sum()) for k in range(10)] for true in range(10)]
    assert test["confusion"] == counts
    assert test["class_accuracy"] == pytest.approx([100 * c[k] / sum(c) for k, c in enumerate(counts)])
    assert "class 9" in capsys.readouterr().out
    with Image.open(run / "confusion.png") as figure:
        assert figure.format == "PNG" and min(figure.size) > 500


def test_an_evaluation_adds_three_files_and_changes_none(run):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 0
    after = {path.name: path.read_bytes() for path in run.iterdir()}
    assert after.keys() - before.keys() == {"evaluation.json", "confusion.png", "errors.png"}
    assert before.items() <= after.items()


def test_an_incomplete_run_is_evaluated_at_its_newest_checkpoint(run, capsys):
    (run / "result.json").unlink()
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 0
    assert "not complete" in capsys.readouterr().out


REFUSED = {
    "no folder": ("--evaluate nowhere", "nowhere is not a run folder", "no such folder"),
    "a folder without a run": ("--evaluate .", "not a run folder", "config.yaml"),
    "no folder said": ("--evaluate", "--evaluate needs a value"),
    "a setting of training": ("--evaluate run --lr 0.2", "--lr (command line)", "when evaluating a run"),
    "an augmentation": ("--evaluate run --cutout 8", "--cutout", "cannot be changed", "views"),
    "a file of settings": ("--config x.yaml --evaluate run", "--config cannot be combined with --evaluate"),
    "two actions": ("--evaluate run --dry-run", "--evaluate and --dry-run", "cannot be combined"),
    "an unknown view": ("--evaluate run --tta-flop", "unknown setting", "tta_flop", "tta_flip"),
}


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_options_that_contradict_evaluate_are_refused_in_one_line(run, capsys, line):
    line, *parts = line
    assert train.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(part in error for part in parts), error


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("last.pt", None, "there is no checkpoint run/last.pt"),
        ("last.pt", b"PK\3\4", "run/last.pt cannot be read as a checkpoint"),
        ("config.yaml", b"", "run/config.yaml is empty"),
        ("config.yaml", b"\xff\xfe", "run cannot be read by this version: run/config.yaml"),
        ("config.yaml", b"lr: {base: 3}\n", "run cannot be read by this version: lr.base"),
        ("result.json", b"{}", "run/result.json cannot be read"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(run, capsys, name, content, said):
    (run / name).unlink() if content is None else (run / name).write_bytes(content)
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error, error
    assert not (run / "evaluation.json").exists()


def test_a_configuration_of_another_model_is_refused(run, capsys):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("resnet20", "resnet32"))
    assert train.main(["--evaluate", "run", "--device", "cpu"]) == 2
    assert "another model's" in capsys.readouterr().err
