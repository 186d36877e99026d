"""`--evaluate.corruptions True`: accuracy under corruptions, after training and for a trained run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import train
from lib.core.registry import corruptions
from lib.data.synthetic import synthetic
from lib.run.robustness import corrupted, corruption_error, robustness

CORRUPTIONS = corruptions.names()


@pytest.fixture
def three(monkeypatch):
    """Three corruptions only, because all fifteen take long."""
    monkeypatch.setattr(corruptions, "names", lambda: ["contrast", "fog", "gaussian_noise"])


def test_evaluating_a_run_prints_accuracy_by_corruption_and_severity_and_the_mean_error(run, three, capsys):
    line = "--evaluate run --device cpu --evaluate.corruptions True"
    assert train.main(line.split()) == 0
    text = capsys.readouterr().out
    report = json.loads((run / "evaluation.json").read_text())
    for network in report["networks"].values():
        found = network["test"]["corruptions"]
        assert found.keys() == {"contrast", "fog", "gaussian_noise"}
        assert all(len(row) == 5 for row in found.values())
        error = np.mean([100 - accuracy for row in found.values() for accuracy in row])
        assert network["test"]["corruption_error"] == pytest.approx(error)
    last = report["networks"]["last"]["test"]
    assert f"mean corruption error (not divided by AlexNet's): last {last['corruption_error']:.2f} %" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("fog"))
    assert row[1:6] == [f"{accuracy:.2f}" for accuracy in last["corruptions"]["fog"]]


def test_a_run_with_corruptions_records_them_and_is_the_same_run_otherwise(tiny, three, capsys):
    line = ["--config", tiny, "--ema", "--output-dir", "run"]
    assert train.main([*line, "--evaluate.corruptions", "True"]) == 0
    result = json.loads(Path("run/result.json").read_text())
    assert result["corruptions"].keys() == {"last", "ema"}
    rows = result["corruptions"]["ema"].values()
    error = np.mean([100 - accuracy for row in rows for accuracy in row])
    assert result["ema_test_corruption_error"] == pytest.approx(error)
    assert "mean corruption error" in Path("run/log.txt").read_text()
    # Evaluating corruptions does not change what is learned, so this command is the same run.
    assert train.main(line) == 0
    assert "complete" in capsys.readouterr().out
    # Evaluating its folder gives the same numbers.
    assert train.main(["--evaluate", "run", "--corruptions"]) == 0
    again = json.loads(Path("run/evaluation.json").read_text())["networks"]
    assert again["last"]["test"]["corruptions"] == result["corruptions"]["last"]


def test_a_complete_run_without_corruptions_names_the_command_that_evaluates_them(run, capsys):
    line = "--config run/config.yaml --output-dir run --evaluate.corruptions True"
    assert train.main(line.split()) == 0
    assert "train.py --evaluate run --evaluate.corruptions True" in capsys.readouterr().out


def test_corrupted_images_are_the_same_for_every_run():
    split = synthetic(size=80, image_size=8).test
    for name in CORRUPTIONS:
        one, two = (corrupted(split, name, 2) for _ in range(2))
        assert torch.equal(one.x, two.x) and torch.equal(one.y, split.y)
        assert not torch.equal(one.x, split.x)


def test_a_constant_prediction_has_the_same_accuracy_under_every_corruption(three):
    split = synthetic(size=80, image_size=8).test

    class Constant(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(10)[torch.full((len(x),), 3)]

    found = robustness({"last": Constant()}, split, lambda x: x.float(), "fp32")
    assert found["last"] == dict.fromkeys(("contrast", "fog", "gaussian_noise"), [10.0] * 5)
    assert corruption_error(found["last"]) == 90
