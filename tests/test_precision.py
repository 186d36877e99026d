"""Precision: every one trains, and the scale of the loss, its growth and its overflows."""

import copy
from contextlib import nullcontext
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from lib.core.batch import Batch
from lib.core.precision import LossScaler, Overflow, Precision
from lib.core.registry import losses, wrappers
from lib.engine.step import train_step
from tests.helpers.steps import (
    dense,
    equal,
    gradient_of,
    run_of,
    state_of,
)


def weights_after(steps: int, **changes) -> tuple[list[Tensor], Tensor]:
    """The weights after some steps, and the loss before the last of them."""
    model = dense(nn.BatchNorm1d(16))
    run = run_of(model, "crop", "flip", **changes)
    scaler = run.learning.scaler
    scaler.scale = min(scaler.scale, 2.0**8)  # the usual start overflows a few times
    for step in range(steps):
        loss = train_step(run, step)
        assert loss.isfinite()
    assert all(p.dtype == torch.float32 for p in model.parameters())
    return state_of(model), loss


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("wrapper", [None, *wrappers.names()])
def test_every_precision_ends_near_full_precision(precision, wrapper):
    (full, loss), (low, low_loss) = (
        weights_after(5, precision=p, wrapper=wrapper) for p in ("fp32", precision)
    )
    torch.testing.assert_close(low_loss, loss, atol=0.05, rtol=0.1)
    if wrapper and wrappers[wrapper].facts.amplifies_rounding:
        return  # single weights may move elsewhere, down to the same loss
    # bf16 keeps 8 bits: a few times 2^-8 of the way. A gradient left scaled or lost is off by all of it.
    for start, one, other in zip(state_of(dense(nn.BatchNorm1d(16))), full, low, strict=True):
        assert (other - one).double().norm() <= 0.1 * (one - start).double().norm()


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_the_gradient_does_not_depend_on_the_scale_of_the_loss(accumulate, clip):
    # A power of two changes exponents only, so the gradients are equal bit for bit.
    model = dense()
    plain, scaled = (
        gradient_of(model, scaler=LossScaler(p), accumulate=accumulate, clip=clip) for p in ("fp32", "fp16")
    )
    assert equal(plain, scaled)


def exploding(logits: Tensor, batch: Batch) -> Tensor:
    """A finite loss with a scaled gradient beyond float32."""
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
    while "base" in state:  # a wrapper with its own state
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


def test_the_state_of_a_scaler_is_restored():
    one, other = LossScaler("fp16"), LossScaler("fp16")
    one.scale, one.good_steps = 8.0, 1999
    other.load_state_dict(one.state_dict())
    p = nn.Parameter(torch.zeros(1))
    p.grad = torch.ones(1)
    other.finish([p], None)
    assert (other.scale, p.grad.item()) == (16.0, 1 / 8)


@pytest.mark.parametrize("precision", [p for p in get_args(Precision) if p != "fp16"])
def test_without_fp16_the_scale_is_one_and_gradients_are_not_checked(precision):
    p = nn.Parameter(torch.zeros(1))
    p.grad = torch.tensor([float("inf")])
    scaler = LossScaler(precision)
    scaler.finish([p], None)
    assert p.grad.isinf().all()
    assert scaler.scale == 1
