"""Averages of the weights against closed forms and plain means, and BatchNorm's statistics by hand."""

import contextlib
import io
import json
import random
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import lib.engine.evaluate
import lib.run.fit
import lib.store.checkpoint
import train
from lib.core.registry import averages
from lib.data.base import Split
from lib.engine.evaluate import refresh_statistics
from tests.helpers.bits import bits
from tests.helpers.references import moving_average
from tests.helpers.runs import TINY

pytestmark = pytest.mark.usefixtures("undrawn")

START = {"weight": 5.0, "bias": -2.0, "running_mean": 0.5, "running_var": 3.0}  # a BatchNorm


def average_of(name: str, model: nn.Module, steps_per_epoch: int = 2, total: int = 6, **options):
    return averages[name].build(model=model, steps_per_epoch=steps_per_epoch, total=total, **options)


def with_norm(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


def set_to(model: nn.Module, values: dict[str, float]) -> None:
    for key, value in values.items():
        model.state_dict()[key].fill_(value)


def walk(average, model: nn.Module, steps: int) -> list[dict[str, float]]:
    """Move the model at random, update the average after each step, and return the model's values."""
    draw, values = random.Random(0), []
    for step in range(steps):
        values.append({key: draw.uniform(-3, 3) for key in START})
        set_to(model, values[-1])
        model.num_batches_tracked.fill_(step + 1)
        average.update(model, step)
    return values


def found(average) -> dict[str, float]:
    state = average.model.state_dict()
    return {key: state[key].item() for key in START}


# Every average


@pytest.mark.parametrize("name", averages.names())
def test_a_reloaded_average_continues_bit_for_bit(name):
    def follow(average, steps: range) -> None:
        for step in steps:
            average.update(with_norm(step), step)

    whole, first, second = (average_of(name, with_norm()) for _ in range(3))
    follow(whole, range(6))
    follow(first, range(5))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    follow(second, range(5, 6))
    for one, other in zip(whole.model.state_dict().values(), second.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", averages.names())
def test_the_model_of_an_average_is_independent_and_not_trainable(name):
    model = with_norm()
    average = average_of(name, model)
    average.update(model, 0)
    assert not any(p.requires_grad for p in average.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    before = average.model.state_dict()["0.weight"].clone()
    with torch.no_grad():
        model[0].weight.add_(1)
    assert torch.equal(average.model.state_dict()["0.weight"], before)
    assert average.model(torch.randn(16, 6)).shape == (16, 3)


@pytest.mark.parametrize("name", averages.names())
def test_without_step_numbers_an_average_counts_its_updates(name):
    numbered, counted = (average_of(name, with_norm()) for _ in range(2))
    for step in range(6):
        numbered.update(with_norm(step), step)
        counted.update(with_norm(step))
    assert bits(counted.state_dict()) == bits(numbered.state_dict())


# EMA


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("warmup", [True, False])
def test_the_moving_average_is_the_weighted_sum_of_the_weights_and_statistics(decay, warmup):
    model = nn.BatchNorm1d(1)
    set_to(model, START)
    average = average_of("ema", model, decay=decay, warmup=warmup)
    values = walk(average, model, 30)
    for key, value in found(average).items():
        expected = moving_average(START[key], [step[key] for step in values], decay, warmup)
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert average.model.num_batches_tracked == 30
    for key, value in values[-1].items():  # the trained model is unchanged
        assert model.state_dict()[key].item() == pytest.approx(value)


def test_the_moving_average_of_constant_weights_forgets_by_the_decay_per_step():
    model = nn.BatchNorm1d(1)
    set_to(model, {"weight": 0.0})
    average = average_of("ema", model, decay=0.9, warmup=False)
    set_to(model, {"weight": 1.0})
    for step in range(20):
        average.update(model, step)
        assert average.model.weight.item() == pytest.approx(1 - 0.9 ** (step + 1), rel=1e-5)


# SWA


# The numbers of the steps, from 0, after which weights are averaged, for epochs of 4 steps.
@pytest.mark.parametrize(
    ("total", "start", "taken"),
    [
        (40, 0.75, [31, 35, 39]),  # epoch 7.5: the ends of epochs 8, 9, 10
        (40, 7, [27, 31, 35, 39]),
        (40, 0.7, [27, 31, 35, 39]),  # not from the eighth on, by a rounding error
        (40, 0, list(range(3, 40, 4))),
        (10, 0.75, [7, 9]),  # epoch 1.875; the budget ends within its third epoch
        (10, 1, [3, 7, 9]),
        (2, 0.75, [1]),
        (40, 10, [39]),
    ],
)
def test_stochastic_weight_averaging_is_the_mean_of_the_weights_at_the_ends_of_epochs(total, start, taken):
    model = nn.BatchNorm1d(1)
    set_to(model, START)
    average = average_of("swa", model, steps_per_epoch=4, total=total, start=start)
    values = walk(average, model, total)
    mean = {key: sum(values[step][key] for step in taken) / len(taken) for key in START}
    assert found(average) == pytest.approx(mean, rel=1e-5, abs=1e-6)


def test_before_its_start_stochastic_weight_averaging_has_the_latest_weights():
    model = nn.BatchNorm1d(1)
    average = average_of("swa", model, steps_per_epoch=4, total=40, start=5)
    values = walk(average, model, 14)
    assert found(average) == pytest.approx(values[11])


# Statistics


def images(count: int) -> tuple[Split, Tensor]:
    """Images whose brightness rises, and their pixels as floats."""
    x = torch.arange(count)[:, None, None, None] * 3 + torch.arange(8).view(1, 2, 2, 2)
    return Split(x.to(torch.uint8), torch.zeros(count, dtype=torch.int64)), x.double()


def test_refreshed_statistics_are_the_mean_and_variance_of_all_the_images():
    split, x = images(40)
    norm = nn.BatchNorm2d(2)
    refresh_statistics(norm, split, Tensor.float, "fp32")
    # One batch: BatchNorm keeps the unbiased variance.
    torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)).float())
    torch.testing.assert_close(norm.running_var, x.var((0, 2, 3), unbiased=True).float())


def test_refreshed_statistics_over_several_batches_are_the_mean_of_theirs(monkeypatch):
    monkeypatch.setattr(lib.engine.evaluate, "BATCH", 8)
    split, x = images(40)
    seen = []

    class Watched(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.double())
            return super().forward(x)

    norm = Watched(2)
    refresh_statistics(norm, split, Tensor.float, "fp32")
    assert [len(part) for part in seen] == [8] * 5
    assert torch.equal(torch.cat(seen)[:, 0, 0, 0].sort().values, x[:, 0, 0, 0])  # every image once
    means, variances = (torch.stack([f(part) for part in seen]).mean(0) for f in (_mean, _variance))
    torch.testing.assert_close(norm.running_mean, means.float())  # with the tolerance of float32, as computed
    torch.testing.assert_close(norm.running_var, variances.float())
    # In the order of the data set a batch would hold similar images only, and lose most of the variance.
    assert (norm.running_var.double() > 0.5 * _variance(x)).all()


def _mean(x: Tensor) -> Tensor:
    return x.mean((0, 2, 3))


def _variance(x: Tensor) -> Tensor:
    return x.var((0, 2, 3))


def test_statistics_are_refreshed_with_norms_in_train_mode_and_without_dropout():
    split, x = images(40)
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.9), nn.BatchNorm2d(2))
    refresh_statistics(model, split, Tensor.float, "fp32")
    mean, variance = (f((0, 2, 3), keepdim=True) for f in (x.mean, partial(x.var, unbiased=False)))
    norm = (x - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(model[2].running_var.double(), norm.var((0, 2, 3)), rtol=1e-4, atol=0)
    torch.testing.assert_close(model[2].running_mean.double(), torch.zeros(2).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_refreshing_statistics_is_idempotent_and_changes_nothing_else(training):
    split, _ = images(40)
    model = nn.Sequential(nn.BatchNorm2d(2, momentum=0.3), nn.Dropout(0.5)).train(training)
    weights = [p.clone() for p in model.parameters()]
    refresh_statistics(model, split, Tensor.float, "fp32")
    once = [b.clone() for b in model.buffers()]
    set_to(model[0], {"running_mean": 7.0, "running_var": 9.0})
    refresh_statistics(model, split, Tensor.float, "fp32")
    assert all(torch.equal(a, b) for a, b in zip(once, model.buffers(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert model[0].momentum == 0.3
    assert all(module.training == training for module in model.modules())


def test_a_model_without_norms_is_not_evaluated():
    refresh_statistics(nn.Identity(), None, None, "fp32")


# From the command line


HERE = ["--config", "tiny.yaml", "--output-dir", "run"]
SWA = [*HERE, "--epochs", "3", "--swa", "--swa-start", "0.3", "--ema"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of an uninterrupted run. Tests only read it."""
    place = tmp_path_factory.mktemp("whole")
    with contextlib.chdir(place):
        Path("tiny.yaml").write_text(TINY)
        assert train.main(SWA) == 0
    return place / "run"


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_an_average_that_needs_statistics_is_evaluated_at_the_end_only(whole):
    assert ["swa_test_accuracy" in row for row in rows_of(whole)] == [False, False, True]
    assert all("ema_test_accuracy" in row for row in rows_of(whole))


def test_the_saved_average_is_the_mean_of_the_epochs_weights(tiny, monkeypatch):
    weights, step = [], lib.run.fit.train_step

    def watched(run, number):
        loss = step(run, number)
        if number % 4 == 3:
            weights.append({key: value.clone() for key, value in run.model.state_dict().items()})
        return loss

    monkeypatch.setattr(lib.run.fit, "train_step", watched)
    assert train.main(SWA) == 0
    average = lib.store.checkpoint.load(Path("run/last.pt"))["averages"]["swa"]
    for key in weights[0]:
        if "running" not in key and "tracked" not in key:  # the statistics are measured again
            mean = torch.stack([w[key].double() for w in weights]).mean(0)
            torch.testing.assert_close(average[key].double(), mean, rtol=1e-5, atol=1e-6)
        elif "tracked" in key:
            assert average[key] == 1  # all 64 images are one batch


@pytest.mark.parametrize("step", [9, 12])
def test_an_interrupted_run_with_averages_resumes_bit_for_bit(tiny, monkeypatch, whole, step):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == 12:  # after the last checkpoint, before the result
            patch.setattr("lib.run.record.Record.predict", stop)
        else:
            patch.setattr(lib.run.fit, "train_step", stop_at(step, lib.run.fit.train_step))
        assert train.main(SWA) == 130
    assert train.main(SWA) == 0
    mine, theirs = (lib.store.checkpoint.load(folder / "last.pt") for folder in (Path("run"), whole))
    for name in ("swa", "ema"):
        for key, value in theirs["averages"][name].items():
            assert torch.equal(mine["averages"][name][key], value), key
    assert rows_of(Path("run"))[-1]["swa_test_loss"] == rows_of(whole)[-1]["swa_test_loss"]
    assert Path("run/predictions.npz").read_bytes() == (whole / "predictions.npz").read_bytes()


def stop_at(number: int, step):
    def watched(run, n):
        if n == number:
            raise KeyboardInterrupt
        return step(run, n)

    return watched


def test_a_start_beyond_the_budget_is_refused(tiny, capsys):
    assert train.main(["--config", tiny, "--swa", "--swa-start", "5"]) == 2
    assert "start must be within the budget of 2 epochs, got 5" in capsys.readouterr().err
