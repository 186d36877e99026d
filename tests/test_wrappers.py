"""Wrappers around an optimizer: their contracts, their papers worked out by hand in float64, their order."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.core.errors import BadInput
from lib.core.facts import WrapperOrder
from lib.core.precision import Overflow
from lib.core.registry import wrappers
from lib.engine.step import Run, train_step
from scripts.docs.trials import SMALL, TINY, start
from tests.helpers.optim_losses import (
    SGD,
    Closure,
    Net,
    assert_values,
    closure_of,
    gradient_of_net,
    lowers,
    reloaded,
    values_of,
    wrap,
    wrapped,
)


@pytest.mark.parametrize("name", wrappers.names())
def test_every_wrapper_lowers_a_convex_loss_and_shares_the_groups_of_its_base(name):
    w = torch.full((3,), 20.0, requires_grad=True)
    optimizer = wrap(name, [w])
    assert optimizer.param_groups is optimizer.base.param_groups
    assert lowers(optimizer, w)


@pytest.mark.parametrize("name", wrappers.names())
def test_a_reloaded_wrapper_continues_bit_for_bit(name):
    def steps(w: Tensor, optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.step(closure_of(optimizer, w))

    whole, first = (torch.full((3,), 20.0, requires_grad=True) for _ in range(2))
    steps(whole, wrap(name, [whole], momentum=0.9), 6)
    optimizer = wrap(name, [first], momentum=0.9)
    steps(first, optimizer, 3)
    second = first.detach().clone().requires_grad_()
    again = wrap(name, [second], momentum=0.9)
    again.load_state_dict(reloaded(optimizer.state_dict()))
    steps(second, again, 3)
    assert torch.equal(second, whole)


@pytest.mark.parametrize("name", wrappers.names())
def test_a_wrapper_takes_no_step_when_the_gradient_overflows(name):
    w, calls = torch.ones(3, requires_grad=True), []
    optimizer = wrap(name, [w], momentum=0.9)

    def overflowing() -> Tensor:
        calls.append(1)
        w.grad = torch.full((3,), torch.inf)
        raise Overflow

    with pytest.raises(Overflow):
        optimizer.step(overflowing)
    assert torch.equal(w, torch.ones(3))
    assert len(calls) == 1
    optimizer.step(closure_of(optimizer, w))  # and training continues
    assert not torch.equal(w, torch.ones(3))


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_lookahead_goes_back_a_part_of_the_way_every_few_steps(alpha):
    model, every = Net(), 3
    optimizer = wrapped("lookahead", model, every=every, alpha=alpha)
    closure, step, values = Closure(model), SGD(), values_of(model)
    slow = values
    for t in range(1, 11):
        optimizer.step(closure)
        values = step(values, gradient_of_net(values))
        if t % every == 0:
            values = slow = [s + alpha * (w - s) for s, w in zip(slow, values, strict=True)]
        assert_values(model, values)


def test_lookahead_does_not_count_a_step_skipped_by_an_overflow():
    model = Net()
    optimizer = wrapped("lookahead", model)
    optimizer.step(Closure(model))
    before = values_of(model)

    def overflowing() -> Tensor:
        Closure(model)()
        raise Overflow

    with pytest.raises(Overflow):
        optimizer.step(overflowing)
    assert optimizer.steps == 1
    assert_values(model, before)


def test_centralized_gradients_have_mean_0_for_each_neuron():
    model = Net()
    optimizer, step, values = wrapped("gradient_centralization", model), SGD(), values_of(model)
    for _ in range(10):
        optimizer.step(Closure(model))
        gradients = gradient_of_net(values)
        for g in gradients:
            for row in g if g.ndim > 1 else ():
                row -= row.mean()
        values = step(values, gradients)
    assert_values(model, values)


def test_adaptive_clipping_bounds_each_neuron_by_its_weights_except_in_the_head():
    model, clip, eps = Net(), 1.5, 0.01
    with torch.no_grad():
        model.filters.weight[0] = 0.0  # its norm is replaced by eps
        model.filters.weight[1] *= 100  # within its bound
        model.head.weight *= 0.01  # would be above its bound
    optimizer, step, values = wrapped("agc", model, clip=clip, eps=eps), SGD(), values_of(model)
    names = [name for name, _ in model.named_parameters()]
    clipped = []
    for _ in range(10):
        optimizer.step(Closure(model))
        gradients = gradient_of_net(values)
        for name, w, g in zip(names, values, gradients, strict=True):
            units = zip(w, g, strict=True) if w.ndim > 1 else [(w, g)]
            for weights, part in () if name.startswith("head") else units:
                bound = clip * max(np.linalg.norm(weights), eps)
                clipped.append(bound < np.linalg.norm(part))
                part *= min(1.0, bound / max(np.linalg.norm(part), 1e-6))
        values = step(values, gradients)
    assert_values(model, values)
    assert any(clipped) and not all(clipped)


# Order


def chain(optimizer) -> list[str]:
    """The classes, outermost first."""
    return [type(optimizer).__name__, *(chain(optimizer.base) if hasattr(optimizer, "base") else [])]


def run_with(names: list[str], **settings) -> Run:
    mine = [key.split(".")[1] for key in settings if key.startswith("wrap.")]
    switches = {f"wrap.{name}": True for name in names if name not in mine}
    return start(SMALL | {"model.name": TINY} | switches | settings)


def test_the_order_of_wrappers_does_not_depend_on_the_order_of_the_flags():
    names = ("lookahead", "looksam", "gradient_centralization", "agc")
    for flags in list(permutations(names))[::5]:
        expected = ["Lookahead", "LookSAM", "GradientCentralization", "AdaptiveGradientClipping", "SGD"]
        assert chain(run_with(flags).optimizer) == expected


def test_every_wrapper_states_its_order():
    for entry in wrappers.entries():
        assert isinstance(entry.facts.order, WrapperOrder)


def test_two_wrappers_that_perturb_the_weights_are_refused():
    with pytest.raises(BadInput, match="looksam and sam are two ways to perturb the weights"):
        run_with(["looksam", "sam"])


@pytest.mark.parametrize("name", wrappers.names())
def test_running_statistics_are_updated_once_per_step(name):
    run = run_with([name])
    for step in range(3):
        train_step(run, step)
    counts = {int(m.num_batches_tracked) for m in run.model.modules() if isinstance(m, nn.BatchNorm2d)}
    assert counts == {3}


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("looksam", "every", 0), ("looksam", "alpha", -1), ("looksam", "rho", 0), ("lookahead", "every", 0),
        ("lookahead", "alpha", 0), ("lookahead", "alpha", 1.5), ("agc", "clip", 0), ("agc", "eps", 0),
    ],
)  # fmt: skip
def test_a_setting_out_of_bounds_is_refused(name, field, value):
    with pytest.raises(BadInput, match=f"wrap.{name}.{field} .*: {field} must be"):
        run_with([name], **{f"wrap.{name}.{field}": value})
