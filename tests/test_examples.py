"""The guide of the loader and the programs in examples/."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from examples import data_selection, own_loop
from lib.data.base import Split
from lib.loader import Images, Loader, predict

ROOT = Path(__file__).parent.parent


def test_the_code_of_the_guide_of_the_loader_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.+?)```", (ROOT / "docs/loader.md").read_text(), re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/loader.md", "exec"), names)
    assert len(blocks) == 6 and names["found"].logits.shape == (359, 10)


def test_the_training_loop_learns(capsys):
    assert own_loop.main(["--data", "synthetic", "--width", "4", "--epochs", "2", "--device", "cpu"]) == 0
    *epochs, last = capsys.readouterr().out.splitlines()[1:]
    assert len(epochs) == 2 and float(re.search(r"accuracy ([\d.]+) %", last)[1]) > 60


def test_a_wrong_argument_of_an_example_is_one_line(capsys):
    assert own_loop.main(["--data", "digit"]) == 2
    assert data_selection.main(["--share", "2"]) == 2
    assert re.fullmatch(r"error: .+ digits\?\nerror: --share must .+\n", capsys.readouterr().err)


def test_confidence_is_the_log_probability_of_the_true_class():
    images = Images(
        Split(torch.zeros(3, 3, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1])), torch.Tensor.float
    )
    logits = torch.tensor([[40.0, 0], [40, 0], [0, 0]])
    model = type("Fixed", (nn.Module,), {"forward": lambda self, x: logits})()
    found = data_selection.confidence(model, images)
    torch.testing.assert_close(found, torch.tensor([-4.248354e-18, -40, -0.693147181]).double())


def test_the_experiment_trains_on_all_random_and_least_confident_images(monkeypatch, capsys):
    kept, models = [], []

    def train(model: nn.Module, loader: Loader, epochs: int, log: object) -> None:
        own_loop.train(model, loader, epochs, log=log)
        kept.append(loader._subset.kept)
        models.append(model)

    monkeypatch.setattr(data_selection, "train", train)
    line = "--data synthetic --width 2 --epochs 1 --batch-size 64 --seeds 2 --fraction 0.2 --device cpu"
    assert data_selection.main(line.split()) == 0
    assert list(map(len, kept)) == 2 * [205, 123, 123]
    loader = Loader("synthetic", fraction=0.2, device="cpu", batch_size=64)
    for least, model in ((kept[2], models[0]), (kept[5], models[3])):
        p = predict(model, loader.train).gather(1, loader.train.y[:, None])[:, 0]
        others = torch.ones(205, dtype=torch.bool).index_fill(0, least, False)
        assert p[least].max() <= p[others].min() + 1e-6
    *seeds, _, _, _, _, last = capsys.readouterr().out.splitlines()
    rows = [[float(a) for a in re.findall(r"([\d.]+) %", seed)] for seed in seeds]
    gain = sum(least - at_random for _, at_random, least in rows) / 2
    # Accuracies are printed to 0.005, so the mean of two differences is known to 0.01, and printed to 0.005.
    assert float(re.search(r"([+-][\d.]+) points", last)[1]) == pytest.approx(gain, abs=0.0151)
