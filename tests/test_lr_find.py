"""The learning-rate finder: the training step under a ramp, the suggestion, and the run restored after it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lib.config.cli import parse
from lib.engine.step import Run, train_step
from lib.factory import build
from scripts.lr_find import draw, find, judge, lr_find, main

DATA = "--dataset synthetic --data.size 64 --data.classes 4 --bs 16 --device cpu"
TINY = f"{DATA} --model lenet"
NORMS = f"{DATA} --model resnet20 --image-size 8"  # with BatchNorm and its statistics


def run_of(extra: str = "", base: str = TINY) -> Run:
    config = parse(f"{base} --schedule constant {extra}".split()).config()
    return build(config, torch.device("cpu"), print)


class Bowl(nn.Module):
    """One weight, which is the output for every image."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0]))

    def forward(self, x):
        return self.w.expand(len(x), 1)


def with_learning(run: Run, **changes) -> Run:
    return replace(run, learning=replace(run.learning, **changes))


def bowl(curvature: float) -> Run:
    """Plain SGD on curvature / 2 * w^2."""
    model = Bowl()
    return with_learning(
        run_of(),
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
        loss=lambda logits, batch: curvature / 2 * logits[:, 0] ** 2,
    )


@pytest.mark.parametrize("curvature", [0.5, 4.0, 100.0])
def test_on_a_parabola_the_losses_have_their_closed_form_until_they_diverge(curvature):
    finding = find(bowl(curvature), 0.5, 1.3e-4, 1.3e2, 61)
    rates = [1.3e-4 * 10 ** (k / 10) for k in range(61)]
    # Each step multiplies the weight by 1 - rate * curvature, so the loss falls up to 2 / curvature.
    w = 3.0 * np.cumprod([1.0, *(1 - rate * curvature for rate in rates[:-1])])
    taken = len(finding.rates)
    assert finding.rates == pytest.approx(rates[:taken])
    assert finding.losses == pytest.approx((curvature / 2 * w**2)[:taken].tolist(), rel=1e-3, abs=0)
    assert finding.suggestion < 2 / curvature
    assert finding.diverged == (taken < 61)
    assert finding.diverged


def test_the_suggestion_scales_with_the_curvature():
    flat, steep = (find(bowl(curvature), 0.5, 1e-5, 1e3, 161) for curvature in (1.0, 100.0))
    assert flat.lowest / steep.lowest == pytest.approx(100, rel=0.3)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_lowest_and_the_steepest_point_of_a_known_curve_are_found(noise):
    # A fall along a sigmoid in log10(rate) around -2, and a rise from about 0 on.
    place = np.linspace(-7, 1, 161)
    curve = 2.3 - 2 / (1 + np.exp(-4 * (place + 2))) + np.exp(4 * (place - 0.5))
    curve += noise * np.random.default_rng(0).normal(size=161)
    finding = judge((10**place).tolist(), curve.tolist())
    fine = np.linspace(-7, 1, 100_001)
    exact = 2.3 - 2 / (1 + np.exp(-4 * (fine + 2))) + np.exp(4 * (fine - 0.5))
    assert math.log10(finding.lowest) == pytest.approx(fine[exact.argmin()], abs=0.35)
    assert math.log10(finding.steepest) == pytest.approx(-2, abs=0.15)
    assert finding.suggestion == finding.lowest / 10


STATES = {
    "sgd": "",
    "sam": "--sam",
    "fp16 with its scale": "--precision fp16",
    "adamw in bf16": "--optim adamw --precision bf16",
    "micro-batches, clipped": "--accumulate 2 --clip 1",
    "with an average": "--ema",
}


@pytest.mark.parametrize("extra", STATES.values(), ids=STATES)
def test_a_search_leaves_no_trace_in_the_run(extra):
    plain, sought = run_of(extra, NORMS), run_of(extra, NORMS)
    for run in (plain, sought):
        train_step(run, 0)
    before = {key: value.clone() for key, value in sought.model.state_dict().items()}
    find(sought, 0.1, 1e-6, 1.0, 10)
    assert all(torch.equal(value, before[key]) for key, value in sought.model.state_dict().items())
    assert plain.learning.scaler.state_dict() == sought.learning.scaler.state_dict()
    losses = [[train_step(run, step).item() for step in (1, 2)] for run in (plain, sought)]
    assert losses[0] == losses[1]
    states = ([run.model, *run.averages.values()] for run in (plain, sought))
    for one, other in zip(*states, strict=True):
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def test_everything_is_restored_when_a_step_fails():
    run = run_of()
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    calls = []

    def fails(logits, batch):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("no more")
        return logits.square().sum(1)

    with pytest.raises(RuntimeError, match="no more"):
        find(with_learning(run, loss=fails), 0.1, 1e-3, 1.0, 10)
    assert all(torch.equal(value, before[key]) for key, value in run.model.state_dict().items())


@pytest.mark.parametrize("extra", ["", "--sam", "--mixup --random-erasing"])
def test_the_losses_are_those_of_the_training_step_at_these_learning_rates(extra):
    finding = find(run_of(extra), 0.1, 1e-4, 0.1, 11)
    by_hand = run_of(extra)
    factors = [1e-3 * 10 ** (0.3 * k) for k in range(11)]
    by_hand.schedule = lambda epoch, epochs: factors[round(epoch * by_hand.data.steps_per_epoch)]
    assert finding.losses == pytest.approx([train_step(by_hand, k).item() for k in range(11)], rel=1e-5)
    assert finding.rates == pytest.approx([0.1 * factor for factor in factors])


def test_micro_batches_change_only_rounding():
    whole, split = (run_of(f"--accumulate {n}") for n in (1, 4))
    one, other = (find(run, 0.1, 1e-5, 1e-2, 10) for run in (whole, split))
    assert other.losses == pytest.approx(one.losses, rel=1e-4)


def test_a_loss_that_is_not_finite_ends_the_search():
    run = bowl(1.0)
    calls = []

    def breaks(logits, batch):
        calls.append(1)
        return logits[:, 0] * (math.nan if len(calls) > 5 else 1.0)

    finding = find(with_learning(run, loss=breaks), 0.5, 1e-3, 1.0, 50)
    assert finding.diverged
    assert len(finding.rates) == 5
    assert len(calls) == 6


def test_curves_without_a_clear_minimum_are_noted():
    rates = (10 ** np.linspace(-5, 0, 40)).tolist()
    (falls,) = judge(rates, np.linspace(2, 1, 40).tolist()).remarks()
    assert "larger --max-lr" in falls
    (rises,) = judge(rates, np.linspace(1, 2, 40).tolist()).remarks()
    assert "never fell" in rises


def test_the_command_prints_and_returns_the_suggestion_and_draws_it(tiny, capsys, tmp_path):
    line = f"{TINY} --optim nesterov --label-smoothing --cutout True --steps 20 --min-lr 1e-4 -o curve.png"
    finding = lr_find(line.split())
    text = capsys.readouterr().out
    assert f"suggested learning rate (a tenth of the lowest point's): {finding.suggestion:.3g}" in text
    assert f"steepest fall at {finding.steepest:.3g}" in text
    assert finding.rates[0] == pytest.approx(1e-4)
    with Image.open(tmp_path / "curve.png") as image:
        assert image.format == "PNG"
        assert image.width > 600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "tiny.yaml"]


def test_the_plot_shows_curves_of_any_scale():
    rates = (10 ** np.linspace(-5, 0, 40)).tolist()
    for losses in (np.full(40, 2.0), np.linspace(2, 1e6, 40), np.zeros(40)):
        assert draw(judge(rates, losses.tolist()), "title").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--min-lr 1 --max-lr 0.1", "min-lr must be above 0 and below max-lr 0.1, got 1.0"),
        ("--min-lr 0", "min-lr must be above 0"),
        ("--steps 5", "steps must be at least 10, got 5"),
        ("--modle resnet20", "unknown setting 'modle'"),
        ("--dry-run", "--dry-run is an option of train.py only"),
    ],
)
def test_a_search_that_is_impossible_ends_with_one_line(line, message, tiny, capsys):
    assert main(f"{TINY} {line}".split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
