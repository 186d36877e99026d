"""The step: one exact gradient however it is computed, and nothing in it depends on what came before."""

import copy
from contextlib import nullcontext
from dataclasses import fields
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

import lib.engine.evaluate
from lib.augment.pipeline import Normalize, Step, pipeline
from lib.core.batch import Batch
from lib.core.budget import Progress
from lib.core.dist import World
from lib.core.facts import Stage
from lib.core.precision import LossScaler, Overflow, Precision
from lib.core.registry import augmentations, averages, losses, models, optimizers, schedules, wrappers
from lib.core.rng import Rng
from lib.data.base import Split
from lib.data.resident import Resident
from lib.engine.evaluate import evaluate
from lib.engine.log import Clock
from lib.engine.lr import set_progress
from lib.engine.step import Learning, Run, train_step
from lib.graph.cost import Cost
from tests.helpers.references import softmax_regression_gradient

K, SIDE = 3, 8
CPU = torch.device("cpu")
NORMALIZE = Normalize(torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25))


def split_of(count: int = 48) -> Split:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator).to(torch.uint8)
    return Split(x, torch.arange(count) % K)


def dense(*between: nn.Module) -> nn.Module:
    """A small network, without BatchNorm unless it is put between."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 16), nn.Tanh(), *between, nn.Linear(16, K))


# A dense layer takes images of one size only.
SIZE_KEPT = [name for name in augmentations.names() if augmentations[name].facts.stage is not Stage.RESIZE]


def run_of(model: nn.Module, *tricks: str, wrapper: str | None = None, batch_size: int = 8, **changes) -> Run:
    """A run of plain SGD with these augmentations; `changes` are fields of Run or Learning."""
    optimizer = optimizers["sgd"].build(params=[{"params": list(model.parameters())}], lr=0.05)
    if wrapper:
        optimizer = wrappers[wrapper].build(base=optimizer, model=model)
    steps = [Step(name, augmentations[name].facts.stage, augmentations[name].build()) for name in tricks]
    precision = changes.get("precision", "fp32")
    learning = {
        "model": model,
        "loss": losses["cross_entropy"].build(),
        "optimizer": optimizer,
        "scaler": LossScaler(precision),
        "cost": Cost(model),
    }
    learning |= {f.name: changes.pop(f.name) for f in fields(Learning) if f.name in changes}
    run = {
        "data": Resident(split_of(), K, batch_size, changes.get("seed", 0)),
        "prepare": pipeline([*steps, Step("normalize", Stage.NORMALIZE, NORMALIZE)]),
        "finalize": pipeline([]),
        "schedule": schedules["constant"].build(),
        "averages": {},
        "views": {},
        "epochs": 4.0,
        "seed": 0,
        "precision": precision,
        "clip": None,
        "clock": Clock(CPU),
        "normalize": NORMALIZE.pixels,
        "splits": {},
    }
    return Run(learning=Learning(**learning), **run | changes)


class Watcher:
    """An optimizer that takes no step: it calls the closure and keeps the gradients that it leaves."""

    def __init__(self, model: nn.Module, calls: int = 1):
        self.params, self.calls = list(model.parameters()), calls
        self.param_groups = [{"params": self.params, "lr": 1.0}]
        self.losses: list[Tensor] = []
        self.gradients: list[list[Tensor | None]] = []

    def zero_grad(self, set_to_none: bool = True) -> None:
        for p in self.params:
            p.grad = None

    def step(self, closure) -> Tensor:
        for _ in range(self.calls):
            self.losses.append(closure())
            self.gradients.append([None if p.grad is None else p.grad.clone() for p in self.params])
        return self.losses[0]


def gradient_of(model: nn.Module, *tricks: str, step: int = 0, **changes) -> list[Tensor]:
    watcher = Watcher(model)
    train_step(run_of(model, *tricks, optimizer=watcher, **changes), step)
    return watcher.gradients[0]


def state_of(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def norm_of(gradients: list[Tensor]) -> float:
    return torch.cat([g.flatten() for g in gradients]).double().norm().item()


# The gradient

NOISY = {
    "dropout": lambda: dense(nn.Dropout(0.5)),
    "dropout behind BatchNorm": lambda: dense(nn.BatchNorm1d(16), nn.Dropout(0.5)),
    "shake-shake": lambda: models["shake_resnet26_2x32d"].build(
        num_classes=K, in_channels=3, image_size=SIDE
    ),
    "stochastic depth": lambda: models["vit_tiny"].build(
        num_classes=K, in_channels=3, image_size=SIDE, drop_path=0.5, dropout=0.1
    ),
}


@pytest.mark.parametrize("build", NOISY.values(), ids=NOISY)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_closure_leaves_the_same_gradient_as_often_as_it_is_called(build, accumulate):
    torch.manual_seed(0)
    model = build()
    watcher = Watcher(model, calls=3)
    run = run_of(model, "crop", "cutmix", optimizer=watcher, accumulate=accumulate, batch_size=4)
    train_step(run, 0)
    assert norm_of(watcher.gradients[0]) > 0
    for again in (1, 2):
        assert torch.equal(watcher.losses[0], watcher.losses[again])
        assert equal(watcher.gradients[0], watcher.gradients[again])


def test_the_noise_of_the_model_differs_from_step_to_step_and_from_rank_to_rank():
    model = dense(nn.Dropout(0.5))
    batch = run_of(model).data.at(0)

    class Same:
        batch_size, steps_per_epoch = 8, 6

        def at(self, step: int) -> Batch:
            return batch

    first = gradient_of(model, data=Same())
    assert equal(first, gradient_of(model, data=Same()))
    assert not equal(first, gradient_of(model, data=Same(), step=1))
    assert not equal(first, gradient_of(model, data=Same(), world=World(rank=1)))
    assert not equal(first, gradient_of(model, data=Same(), seed=1))


@pytest.mark.parametrize("accumulate", [1, 3, 8])
@pytest.mark.parametrize("tricks", [(), ("mixup", "label_smoothing")])
def test_the_gradient_is_that_of_the_mean_loss(tricks, accumulate):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, K, bias=False))
    watcher = Watcher(model)
    run = run_of(model, *tricks, optimizer=watcher, accumulate=accumulate)
    loss = train_step(run, 2)
    batch = run.prepare(run.data.at(2), Rng(0, 2, 0))
    x, weight = batch.x.flatten(1), model[1].weight.detach()
    expected = softmax_regression_gradient(weight, x, batch.y)
    torch.testing.assert_close(watcher.gradients[0][0], expected, atol=1e-5, rtol=1e-4)
    p = torch.exp(x @ weight.T)
    p = p / p.sum(1, keepdim=True)
    torch.testing.assert_close(loss, -(batch.y * p.log()).sum(1).mean())


@pytest.mark.parametrize("accumulate", [2, 3, 4, 5, 8])
def test_micro_batches_add_up_to_the_gradient_of_the_batch(accumulate):
    model = dense()
    whole = gradient_of(model, "crop", "mixup")
    parts = gradient_of(model, "crop", "mixup", accumulate=accumulate)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_clipping_shortens_a_long_gradient_and_leaves_a_short_one():
    model = dense()
    free = gradient_of(model)
    length = norm_of(free)
    clipped = gradient_of(model, clip=length / 3)
    assert norm_of(clipped) == pytest.approx(length / 3, rel=1e-4)
    for one, other in zip(free, clipped, strict=True):
        torch.testing.assert_close(one / 3, other, atol=1e-6, rtol=1e-4)
    assert equal(gradient_of(model, clip=length * 3), free)


def test_the_gradient_is_clipped_once_and_not_in_every_micro_batch():
    model = dense()
    length = norm_of(gradient_of(model))
    clipped = gradient_of(model, accumulate=4, clip=length / 2)
    assert norm_of(clipped) == pytest.approx(length / 2, rel=1e-4)


def test_images_of_the_batch_carry_no_gradient_and_the_model_stays_in_train_mode():
    seen = []

    class Seeing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((x.requires_grad, x.dtype, self.training))
            return x

    model = nn.Sequential(Seeing(), dense())
    train_step(run_of(model, "cutmix"), 0)
    assert seen == [(False, torch.float32, True)]


# Precision and the scale of the loss


def weights_after(steps: int, **changes) -> list[Tensor]:
    model = dense(nn.BatchNorm1d(16))
    run = run_of(model, "crop", "cutout", **changes)
    scaler = run.learning.scaler
    scaler.scale = min(scaler.scale, 2.0**8)  # the usual start overflows a few times
    for step in range(steps):
        assert train_step(run, step).isfinite()
    assert all(p.dtype == torch.float32 for p in model.parameters())
    return state_of(model)


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("wrapper", [None, *wrappers.names()])
def test_every_precision_trains_and_ends_near_full_precision(precision, wrapper):
    full, low = (weights_after(5, precision=p, wrapper=wrapper) for p in ("fp32", precision))
    # LookSAM scales a small difference of two gradients up to the length of one, its rounding included.
    atol = 0.2 if wrapper == "looksam" else 0.03
    for one, other in zip(full, low, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0.1)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_the_scale_of_the_loss_does_not_show_in_the_gradient(accumulate, clip):
    # A power of two changes exponents only, so the gradients are equal bit for bit.
    model = dense()
    plain, scaled = (
        gradient_of(model, scaler=LossScaler(p), accumulate=accumulate, clip=clip) for p in ("fp32", "fp16")
    )
    assert equal(plain, scaled)


def exploding(logits: Tensor, batch: Batch) -> Tensor:
    """A loss whose scaled gradient is beyond float32, while the loss itself is finite."""
    return logits.square().sum(1) * 1e36


@pytest.mark.parametrize("wrapper", [None, *wrappers.names()])
def test_an_overflow_halves_the_scale_and_skips_the_step(wrapper):
    model = dense()
    run = run_of(model, wrapper=wrapper, scaler=LossScaler("fp16"), loss=exploding)
    before = state_of(model)
    loss = train_step(run, 0)
    assert torch.equal(loss, train_step(run_of(copy.deepcopy(model), loss=exploding), 0))
    assert run.learning.scaler.scale == 2.0**15
    assert equal(state_of(model), before)
    state = run.optimizer.state_dict()
    while "base" in state:  # a wrapper with a state of its own
        assert not state.get("steps")
        state = state["base"]
    assert not state["state"]
    run.learning.loss = losses["cross_entropy"].build()
    train_step(run, 1)
    assert run.learning.scaler.scale == 2.0**15
    assert not equal(state_of(model), before)


def test_a_single_non_finite_number_in_one_gradient_is_an_overflow():
    for bad in (float("inf"), float("-inf"), float("nan")):
        params = [nn.Parameter(torch.zeros(3)) for _ in range(3)]
        for p in params:
            p.grad = torch.ones(3)
        params[1].grad[2] = bad
        scaler = LossScaler("fp16")
        with pytest.raises(Overflow):
            scaler.finish(params, clip=1.0)
        assert scaler.state_dict() == {"scale": 2.0**15, "good_steps": 0}


def test_the_scale_doubles_after_enough_good_steps_in_a_row_without_overflow(monkeypatch):
    monkeypatch.setattr(LossScaler, "growth_interval", 3)
    scaler, scales = LossScaler("fp16"), []
    for good in (1, 1, 1, 1, 1, 0, 1, 1, 1, 1):
        p = nn.Parameter(torch.zeros(1))
        p.grad = torch.tensor([1.0 if good else float("inf")])
        with nullcontext() if good else pytest.raises(Overflow):
            scaler.finish([p], None)
        scales.append(scaler.scale / 2**16)
    assert scales == [1, 1, 2, 2, 2, 1, 1, 1, 2, 2]


def test_a_saved_scale_goes_on_as_if_nothing_had_happened():
    one, other = LossScaler("fp16"), LossScaler("fp16")
    one.scale, one.good_steps = 8.0, 1999
    other.load_state_dict(one.state_dict())
    p = nn.Parameter(torch.zeros(1))
    p.grad = torch.ones(1)
    other.finish([p], None)
    assert (other.scale, p.grad.item()) == (16.0, 1 / 8)


@pytest.mark.parametrize("precision", [p for p in get_args(Precision) if p != "fp16"])
def test_without_fp16_the_scale_is_one_and_gradients_are_not_looked_at(precision):
    p = nn.Parameter(torch.zeros(1))
    p.grad = torch.tensor([float("inf")])
    scaler = LossScaler(precision)
    scaler.finish([p], None)
    assert p.grad.isinf().all()
    assert scaler.scale == 1


# Time


@pytest.mark.parametrize("wrapper", [None, *wrappers.names()])
def test_the_rate_of_every_group_follows_the_schedule(wrapper):
    model = dense()
    run = run_of(model, wrapper=wrapper, schedule=lambda epoch, epochs: 1 - epoch / epochs)
    run.optimizer.param_groups[0]["lr"] = 0.2
    for step in range(run.total):
        train_step(run, step)
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.2 * (1 - step / run.total))


def test_groups_with_rates_of_their_own_keep_their_ratio():
    p, q = (torch.zeros(1, requires_grad=True) for _ in range(2))
    now = Progress(step=0, total=1, epoch=0.0, epochs=1.0)
    optimizer = torch.optim.SGD([{"params": [p], "lr": 0.4}, {"params": [q]}], lr=0.1)
    for factor in (0.5, 0.0, 1.0):
        set_progress(optimizer, now, factor)
        assert [group["lr"] for group in optimizer.param_groups] == [0.4 * factor, 0.1 * factor]
    again = torch.optim.SGD([{"params": [p]}, {"params": [q]}], lr=7.0)
    set_progress(optimizer, now, 0.25)
    again.load_state_dict(optimizer.state_dict())  # saved in the middle, at a lowered rate
    set_progress(again, now, 0.5)
    assert [group["lr"] for group in again.param_groups] == [0.2, 0.05]


@pytest.mark.parametrize(("epochs", "total"), [(4.0, 24), (0.5, 3), (1.26, 8), (0.01, 1)])
def test_the_budget_in_steps_is_the_epochs_rounded_and_at_least_one(epochs, total):
    assert run_of(dense(), epochs=epochs).total == total


@pytest.mark.parametrize("wrapper", [None, *wrappers.names()])
@pytest.mark.parametrize("precision", get_args(Precision))
def test_two_runs_of_one_seed_are_equal_bit_for_bit_and_of_another_seed_are_not(wrapper, precision):
    def trained(seed: int) -> list[Tensor]:
        model = dense(nn.BatchNorm1d(16), nn.Dropout(0.3))
        run = run_of(model, *SIZE_KEPT, wrapper=wrapper, precision=precision, seed=seed, accumulate=3)
        told = [train_step(run, step) for step in range(8)]
        return [*told, *state_of(model)]

    first = trained(0)
    torch.manual_seed(99)
    assert equal(trained(0), first)
    assert not equal(trained(1), first)


def test_a_step_depends_on_its_number_and_the_weights_and_not_on_the_steps_before():
    model = dense(nn.Dropout(0.3))
    run = run_of(model, *SIZE_KEPT)
    run.optimizer.param_groups[0]["momentum"] = 0.0
    for step in range(3):
        train_step(run, step)
    other = copy.deepcopy(model)
    fresh = run_of(other, *SIZE_KEPT)
    fresh.optimizer.param_groups[0]["momentum"] = 0.0
    assert torch.equal(train_step(run, 3), train_step(fresh, 3))
    assert equal(state_of(model), state_of(other))


@pytest.mark.parametrize("name", averages.names())
def test_averages_see_the_weights_after_each_step_once(name):
    model = dense(nn.BatchNorm1d(16))
    time = {"steps_per_epoch": 2, "total": 4}
    average, by_hand = (averages[name].build(model=model, **time) for _ in range(2))
    run = run_of(model, "crop", averages={name: average}, wrapper=wrappers.names()[0])
    for step in range(4):
        train_step(run, step)
        by_hand.update(model, step)
    assert equal(state_of(average.model), state_of(by_hand.model))


@pytest.mark.parametrize("wrapper", wrappers.names())
def test_the_loss_that_is_told_is_the_one_before_the_step(wrapper):
    model = dense()
    told = train_step(run_of(copy.deepcopy(model)), 0)
    assert torch.equal(train_step(run_of(model, wrapper=wrapper), 0), told)


# Evaluation


class Reader(nn.Module):
    """Says class 1 for bright images and 0 for dark ones, and counts what it sees."""

    def __init__(self):
        super().__init__()
        self.norm, self.seen = nn.BatchNorm2d(3), []

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 3)
        self.seen.append((len(x), self.training))
        level = self.norm(x).mean((1, 2, 3))
        return torch.stack([-level, level, torch.full_like(level, -50.0)], 1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("precision", get_args(Precision))
def test_evaluation_sees_every_image_once_in_order_and_changes_nothing(monkeypatch, training, precision):
    monkeypatch.setattr(lib.engine.evaluate, "BATCH", 3)
    grey = torch.tensor([255, 0, 255, 255, 0, 255, 0, 0, 0, 255]).to(torch.uint8)
    y = torch.tensor([1, 0, 1, 0, 0, 1, 1, 0, 0, 1])  # the fourth and the seventh do not agree
    x = grey[:, None, None, None].expand(10, 3, SIDE, SIDE).contiguous()
    model = Reader().train(training)
    before = state_of(model)
    result = evaluate(model, Split(x, y), NORMALIZE.pixels, precision)
    assert model.seen == [(3, False), (3, False), (3, False), (1, False)]
    assert all(module.training == training for module in model.modules())
    assert equal(state_of(model), before)
    assert result.accuracy == pytest.approx(80)
    assert result.logits.dtype == torch.float32
    assert result.logits.shape == (10, 3)
    level = torch.where(grey > 0, 2.0, -2.0) / (1 + 1e-5) ** 0.5  # normalised, then by BatchNorm's statistics
    torch.testing.assert_close(result.logits[:, 1], level, atol=1e-2, rtol=0)
    losses_by_hand = torch.log1p(torch.exp(torch.where(grey.bool() == y.bool(), -4.0, 4.0)))
    assert result.loss == pytest.approx(losses_by_hand.mean().item(), abs=1e-2)
