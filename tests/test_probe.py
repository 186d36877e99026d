"""`python -m scripts.probe`: nearest neighbours and a linear probe of the features of a run."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lib.factory.load import load
from scripts import probe

pytestmark = pytest.mark.usefixtures("undrawn")


def test_the_neighbours_vote_by_their_similarity():
    # A query at 0 degrees: a neighbour of class 1 at 10 degrees, two of class 0 at 60, and one far away.
    degrees, y = [10, 60, -60, 170], torch.tensor([1, 0, 0, 2])
    x = torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])
    query = torch.tensor([[3.0, 0.0]])  # the length of a vector does not count
    near, far = math.exp(math.cos(math.radians(10)) / 0.07), math.exp(0.5 / 0.07)
    assert near > 2 * far and math.exp(math.cos(math.radians(10)) / 1) < 2 * math.exp(0.5)
    assert probe.nearest_neighbours(x * 5, y, query, k=3, temperature=0.07).tolist() == [1]
    assert probe.nearest_neighbours(x, y, query, k=3, temperature=1.0).tolist() == [0]
    assert probe.nearest_neighbours(x, y, query, k=3, temperature=1e-4).tolist() == [
        1
    ]  # exp(1e4) is infinite


def test_logistic_regression_finds_the_minimum_that_scipy_finds():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=generator)
    y = torch.randint(0, 3, (60,), generator=generator)
    layer = probe.logistic_regression(x, y, num_classes=3, penalty=0.01)

    def objective(flat: np.ndarray) -> float:
        W, b = flat[:12].reshape(3, 4), flat[12:]
        z = x.double().numpy() @ W.T + b
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        return -log_p[np.arange(60), y.numpy()].mean() + 0.005 * (W**2).sum()

    expected = minimize(objective, np.zeros(15)).x[:12].reshape(3, 4)
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected, atol=1e-3)


def test_a_linear_probe_separates_what_a_line_separates():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=generator)
    y = (x[:, 0] + 0.5 * x[:, 1] > 0).long()
    guess, _ = probe.linear_probe(x[:300] * 1000 + 7, y[:300], x[300:] * 1000 + 7, num_classes=2)
    assert (guess == y[300:]).float().mean() > 0.95


def test_features_are_the_input_of_the_last_layer(trained):
    run = load(trained)
    x = run.images["test"].normalize(run.images["test"].x)
    for name in ("last", "ema"):
        model = run.network(name)
        head = list(model.modules())[-1]
        assert isinstance(head, torch.nn.Linear)
        torch.testing.assert_close(head(run.features(x, name)), model(x))


def test_the_program_reports_both_accuracies_on_its_own_and_on_another_data_set(
    trained, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    line = [str(trained), "-k", "5", "-o", "probe.json", "--device", "cpu"]
    assert probe.main(line) == 0
    record = json.loads(Path("probe.json").read_text())
    said = [float(value) for value in re.findall(r"([\d.]+) %", capsys.readouterr().out)]
    assert said == pytest.approx([record["knn_accuracy"], record["linear_accuracy"]], abs=0.006)
    assert record["dataset"] == "synthetic" and record["features"] == 64
    assert probe.main([*line, "--dataset", "digits"]) == 0  # grey, 28x28
    record = json.loads(Path("probe.json").read_text())
    # Random features of digits are far better than chance, which is 10 %.
    assert record["dataset"] == "digits" and record["knn_accuracy"] > 50 and record["linear_accuracy"] > 50


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-k 0", "-k must be from 1 to the 90 training images, got 0"),
        ("--network swa", "has no network 'swa'"),
        ("--dataset digit", "did you mean digits?"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(trained, capsys, line, said):
    assert probe.main([str(trained), *line.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
