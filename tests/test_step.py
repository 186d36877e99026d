"""The training step: one exact gradient, however it is computed, and no dependence on earlier steps."""

import copy
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from lib.core.batch import Batch
from lib.core.budget import Progress
from lib.core.dist import World
from lib.core.precision import Precision
from lib.core.registry import averages, models, wrappers
from lib.core.rng import Rng
from lib.engine.lr import set_progress
from lib.engine.step import train_step
from tests.helpers.references import softmax_regression_gradient
from tests.helpers.steps import (
    SIDE,
    SIZE_KEPT,
    K,
    Watcher,
    dense,
    equal,
    gradient_of,
    norm_of,
    run_of,
    state_of,
)

# The gradient

NOISY = {
    "dropout": lambda: dense(nn.Dropout(0.5)),
    "dropout after BatchNorm": lambda: dense(nn.BatchNorm1d(16), nn.Dropout(0.5)),
    "shake-shake": lambda: models["shake_resnet26_2x32d"].build(
        num_classes=K, in_channels=3, image_size=SIDE
    ),
    "stochastic depth": lambda: models["vit_tiny"].build(
        num_classes=K, in_channels=3, image_size=SIDE, drop_path=0.5, dropout=0.1
    ),
}


@pytest.mark.parametrize("build", NOISY.values(), ids=NOISY)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_call_of_the_closure_leaves_the_same_gradient(build, accumulate):
    torch.manual_seed(0)
    model = build()
    watcher = Watcher(model, calls=3)
    run = run_of(model, "crop", "cutmix", optimizer=watcher, accumulate=accumulate, batch_size=4)
    train_step(run, 0)
    assert norm_of(watcher.gradients[0]) > 0
    for again in (1, 2):
        assert torch.equal(watcher.losses[0], watcher.losses[again])
        assert equal(watcher.gradients[0], watcher.gradients[again])


def test_the_noise_of_the_model_depends_on_seed_step_and_rank():
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


def test_clipping_shortens_a_long_gradient_and_keeps_a_short_one():
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


# Accuracy in training


@pytest.mark.parametrize("wrapper", [None, *wrappers.names()])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_accuracy_in_training_is_counted_once_a_step_with_the_weights_before_it(wrapper, accumulate):
    model, right, samples = dense(), 0, 0
    run = run_of(model, "mixup", "label_smoothing", wrapper=wrapper, accumulate=accumulate)
    for step in range(6):
        batch = run.prepare(run.data.at(step), Rng(0, step, 0))
        for x, y in zip(batch.x, batch.y, strict=True):  # a mixed image has its dominant class
            right += y[model(x[None])[0].argmax()].item() == max(y.tolist())
            samples += 1
        train_step(run, step)
    assert run.learning.accuracy.read() == (right, samples) and 0 < right < samples == 48
    assert run.learning.accuracy.read() == (0, 0)


# Time


@pytest.mark.parametrize("wrapper", [None, *wrappers.names()])
def test_the_learning_rate_of_every_group_follows_the_schedule(wrapper):
    model = dense()
    run = run_of(model, wrapper=wrapper, schedule=lambda epoch, epochs: 1 - epoch / epochs)
    run.optimizer.param_groups[0]["lr"] = 0.2
    for step in range(run.total):
        train_step(run, step)
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.2 * (1 - step / run.total))


def test_groups_with_different_learning_rates_keep_their_ratio():
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
def test_the_number_of_steps_is_the_epochs_rounded_and_at_least_one(epochs, total):
    assert run_of(dense(), epochs=epochs).total == total


@pytest.mark.parametrize("wrapper", [None, *wrappers.names()])
@pytest.mark.parametrize("precision", get_args(Precision))
def test_runs_are_equal_bit_for_bit_if_and_only_if_their_seeds_are(wrapper, precision):
    def trained(seed: int) -> list[Tensor]:
        model = dense(nn.BatchNorm1d(16), nn.Dropout(0.3))
        run = run_of(model, *SIZE_KEPT, wrapper=wrapper, precision=precision, seed=seed, accumulate=3)
        return [*(train_step(run, step) for step in range(8)), *state_of(model)]

    first = trained(0)
    torch.manual_seed(99)
    assert equal(trained(0), first)
    assert not equal(trained(1), first)


def test_a_step_depends_on_its_number_and_the_weights_and_not_on_earlier_steps():
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
def test_averages_are_updated_once_after_each_step(name):
    model = dense(nn.BatchNorm1d(16))
    time = {"steps_per_epoch": 2, "total": 4}
    average, by_hand = (averages[name].build(model=model, **time) for _ in range(2))
    run = run_of(model, "crop", averages={name: average}, wrapper=wrappers.names()[0])
    for step in range(4):
        train_step(run, step)
        by_hand.update(model, step)
    assert equal(state_of(average.model), state_of(by_hand.model))


@pytest.mark.parametrize("wrapper", wrappers.names())
def test_the_loss_that_is_returned_is_the_one_before_the_step(wrapper):
    model = dense()
    expected = train_step(run_of(copy.deepcopy(model)), 0)
    assert torch.equal(train_step(run_of(model, wrapper=wrapper), 0), expected)
