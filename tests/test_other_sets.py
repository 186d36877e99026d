"""`--evaluate RUN --on SETS`: accuracy on other test sets, and separation of those with other classes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import train
from lib.core.registry import datasets
from lib.data.base import Dataset, DataSpec, Split
from lib.factory.load import load
from lib.run.other_sets import as_own, separation
from tests.helpers.refusals import one_line


@pytest.fixture
def evaluated(run):
    """A function that evaluates the run on data sets, and returns their results."""

    def evaluate_on(*names: str) -> dict:
        assert train.main(["--evaluate", "run", "--device", "cpu", "--on", ",".join(names)]) == 0
        return json.loads(Path("run/evaluation.json").read_text())["on"]

    return evaluate_on


def known(monkeypatch, name: str, dataset: Dataset | dict[str, Dataset]) -> None:
    """Let a registered data set be this one; a dict has those of its corruptions."""
    form = datasets[name].form
    build = (
        (lambda **_: dataset)
        if isinstance(dataset, Dataset)
        else (lambda corruption, **_: dataset[corruption])
    )
    monkeypatch.setattr(datasets, "_functions", datasets._functions | {form: build})


def data(x: torch.Tensor, y: torch.Tensor, classes: tuple[str, ...], soft=None) -> Dataset:
    test = Split(x, y, soft)
    return Dataset(test.take(slice(0)), test, classes, (0.0,) * x.shape[1], (1.0,) * x.shape[1])


def test_a_set_of_the_same_classes_is_evaluated_by_their_names(evaluated, trained, monkeypatch, capsys):
    run = load(trained, device="cpu")
    own = run.images["test"]
    order = torch.randperm(10)
    names = tuple(run.classes[k] for k in order)
    known(monkeypatch, "svhn", data(own.x, order.argsort()[own.y], names))
    found = evaluated("svhn")["svhn"]
    result = json.loads((trained / "result.json").read_text())
    for network, prefix in (("last", ""), ("ema", "ema_"), ("tta_flip", "tta_flip_")):
        of = found["networks"][network]
        for key in ("accuracy", "loss", "ece"):
            assert of[key] == pytest.approx(result[f"{prefix}test_{key}"], rel=1e-6)
    assert f"{result['test_accuracy']:.2f}" in capsys.readouterr().out


def test_a_set_of_other_classes_is_out_of_distribution_and_names_what_it_shares(
    evaluated, trained, monkeypatch, capsys
):
    run = load(trained, device="cpu")
    own = run.images["test"]
    known(monkeypatch, "stl10", data(own.x, own.y % 2, (run.classes[3], "monkey")))
    found = evaluated("stl10")["stl10"]
    assert found["out_of_distribution"] and found["shared"] == [run.classes[3]]
    assert found["networks"]["last"]["auroc"] == pytest.approx(50)  # the same images on both sides
    assert found["networks"]["last"]["fpr95"] >= 95
    out = capsys.readouterr().out
    assert "counts as out of distribution; but it shares" in out and "AUROC %" in out


def test_the_mean_over_corruptions_and_severities_is_of_blocks_in_the_order_of_severity(
    evaluated, trained, monkeypatch, capsys
):
    run = load(trained, device="cpu")
    own = run.images["test"]
    names = datasets["cifar10_c"].facts.corruptions
    right = run.models["last"](own.normalize(own.x)).argmax(1)
    # At severity s, s - 1 of the blocks' images get a label that the network does not give.
    y = torch.cat([torch.where(torch.arange(len(own)) < s, (right + 1) % 10, right) for s in range(5)])
    known(monkeypatch, "cifar10_c", dict.fromkeys(names, data(own.x.repeat(5, 1, 1, 1), y, run.classes)))
    found = evaluated("cifar10-c")["cifar10_c"]["networks"]["last"]
    expected = [100 - 100 * s / len(own) for s in range(5)]
    assert found["corruptions"].keys() == set(names)
    for accuracies in found["corruptions"].values():
        assert accuracies == pytest.approx(expected)
    assert found["corruption_error"] == pytest.approx(100 * 2 / len(own))
    assert "not divided by AlexNet's" in capsys.readouterr().out


def test_labels_of_people_add_the_cross_entropy_with_them(evaluated, trained, monkeypatch):
    run = load(trained, device="cpu")
    own = run.images["test"]
    soft, order = torch.rand(len(own), 10).softmax(1), torch.randperm(10)
    names = tuple(run.classes[k] for k in order)
    known(monkeypatch, "cifar10h", data(own.x, order.argsort()[own.y], names, soft[:, order]))
    with torch.inference_mode():
        log_p = run.models["last"](own.normalize(own.x)).double().log_softmax(1)
    found = evaluated("cifar10h")["cifar10h"]["networks"]["last"]["soft_loss"]
    assert found == pytest.approx(-(soft * log_p).sum(1).mean().item(), rel=1e-5)


def test_registered_sets_of_other_sizes_and_channels_are_evaluated(evaluated):
    found = evaluated("digits", "synthetic")  # 32 pixels, while the run has 8; synthetic of 10 classes
    assert found["digits"]["images"] == 359 and found["digits"]["out_of_distribution"]
    assert 0 <= found["digits"]["networks"]["ema"]["auroc"] <= 100
    assert "accuracy" in found["synthetic"]["networks"]["last"]


@pytest.mark.parametrize("seed", range(3))
def test_auroc_and_fpr95_are_those_of_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    # Rounded, so that confidences tie within and between the sets.
    own, other = (torch.from_numpy(random.normal(0, s, (n, 5)).round(1)) for s, n in ((2, 137), (1, 211)))
    scores = np.concatenate([logits.softmax(1).amax(1).numpy() for logits in (own, other)])
    inside = np.arange(348) < 137
    found = separation(own, other)
    assert found["auroc"] == pytest.approx(100 * metrics.roc_auc_score(inside, scores))
    fpr, tpr, _ = metrics.roc_curve(inside, scores, drop_intermediate=False)
    assert found["fpr95"] == pytest.approx(100 * fpr[tpr >= 0.95][0])


def test_separation_of_disjoint_confidences_is_perfect_and_of_equal_ones_chance():
    sure, unsure = torch.tensor([[9.0, 0.0]]).repeat(20, 1), torch.tensor([[1.0, 0.0]]).repeat(30, 1)
    assert separation(sure, unsure) == {"auroc": 100, "fpr95": 0}
    assert separation(unsure, sure) == {"auroc": 0, "fpr95": 100}
    assert separation(sure, sure) == {"auroc": 50, "fpr95": 100}


def test_images_get_the_channels_crop_and_size_of_the_run_as_pillow_makes_them():
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (2, 12, 12, 3), np.uint8)
    pictures = [Image.fromarray(x).resize((96, 96), Image.Resampling.BICUBIC) for x in coarse]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    spec = DataSpec((1, 32, 32), ("a",), (0.0,), (1.0,), test_crop=0.5)
    found = as_own(Split(x, torch.zeros(2)), spec).x
    box = (24, 24, 72, 72)
    expected = [p.convert("L").crop(box).resize((32, 32), Image.Resampling.BILINEAR) for p in pictures]
    difference = found[:, 0].float() - torch.from_numpy(np.stack(expected)).float()
    assert found.shape == (2, 1, 32, 32) and difference.abs().max() <= 2
    grey = as_own(Split(found, torch.zeros(2)), DataSpec((3, 32, 32), ("a",), (0.0,) * 3, (1.0,) * 3)).x
    assert torch.equal(grey, found.expand(-1, 3, -1, -1))


REFUSED = {
    "an unknown set": ("--evaluate run --on shvn", "shvn", "svhn"),
    "a pattern": ("--evaluate run --on folder:<path>", "folder:<path> is a pattern"),
    "no run": ("--on svhn", "give --evaluate RUN"),
    "no set": ("--evaluate run --on", "--on needs a value"),
    "other classes corrupted": ("--evaluate run --on cifar100_c --offline", "CIFAR-100-C.tar", "--root"),
    "training on a test set": ("--dataset cifar10.1", "cifar10.1 has test images only", "--on cifar10.1"),
    "its dry run": ("--dataset cifar10.1 --dry-run", "cifar10.1 has test images only"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_evaluated_is_one_line(run, monkeypatch, capfd, case):
    line, *parts = REFUSED[case]
    one_line(train.main(line.split()), capfd.readouterr().err, *parts)
