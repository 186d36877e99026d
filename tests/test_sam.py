"""SAM, ASAM and LookSAM against closed forms and their papers, worked out by hand in float64."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.core.precision import Overflow
from lib.core.registry import wrappers
from lib.optim.sam import ASAM
from tests.helpers.optim_losses import (
    SGD,
    Closure,
    Net,
    assert_values,
    closure_of,
    gradient_of_net,
    values_of,
    wrap,
    wrapped,
)

PERTURBING = [entry.name for entry in wrappers.entries() if entry.facts.perturbs]


@pytest.mark.parametrize("name", PERTURBING)
def test_no_step_is_taken_when_the_gradient_overflows_at_the_perturbed_weights(name):
    w, calls = torch.ones(3, requires_grad=True), []
    optimizer = wrap(name, [w], momentum=0.9)

    def overflowing() -> Tensor:
        calls.append(w.detach().clone())
        w.grad = torch.ones(3)
        if len(calls) == 2:
            raise Overflow
        return torch.tensor(5.0)

    with pytest.raises(Overflow):
        optimizer.step(overflowing)
    assert len(calls) == 2 and not torch.equal(calls[1], calls[0])
    assert torch.equal(w, torch.ones(3))
    assert not optimizer.base.state


def parabola(*curvatures: float):
    return lambda w: sum(a * x**2 / 2 for a, x in zip(curvatures, w, strict=True))


@pytest.mark.parametrize("start", [2.0, -0.7])
@pytest.mark.parametrize("a", [0.5, 3.0])
def test_sam_and_asam_on_a_parabola_follow_their_closed_forms(start, a):
    # f = a w^2 / 2: SAM's gradient is that at w + rho sign(w), ASAM's at w + rho (|w| + eta) sign(w).
    sign = math.copysign(1, start)
    for name, options, perturbation in (
        ("sam", {"rho": 0.3}, 0.3),
        ("asam", {"rho": 0.3, "eta": 0.2}, 0.3 * (abs(start) + 0.2)),
    ):
        w = torch.tensor([start], dtype=torch.float64, requires_grad=True)
        optimizer = wrap(name, [w], **options)
        loss = optimizer.step(closure_of(optimizer, w, parabola(a)))
        assert loss.item() == pytest.approx(a * start**2 / 2)
        assert w.item() == pytest.approx(start - 0.1 * a * (start + perturbation * sign), rel=1e-9)


def test_the_radius_bounds_all_the_weights_together():
    # Two tensors, f = (3 w^2 + 4 v^2) / 2 at w = v = 1: the gradient (3, 4) has norm 5.
    w, v = (torch.ones(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = wrap("sam", [w, v], rho=0.5)
    optimizer.step(closure_of(optimizer, (w, v), lambda p: parabola(3, 4)((p[0][0], p[1][0]))))
    assert w.item() == pytest.approx(1 - 0.1 * 3 * (1 + 0.5 * 3 / 5), rel=1e-9)
    assert v.item() == pytest.approx(1 - 0.1 * 4 * (1 + 0.5 * 4 / 5), rel=1e-9)
    # ASAM at w = 1, v = 2, eta = 0: T g = (1*3, 2*8), the perturbation is rho (1*3, 4*8) / |(3, 16)|.
    with torch.no_grad():
        w.fill_(1.0), v.fill_(2.0)
    optimizer = wrap("asam", [w, v], rho=0.5, eta=0.0)
    optimizer.step(closure_of(optimizer, (w, v), lambda p: parabola(3, 4)((p[0][0], p[1][0]))))
    norm = math.hypot(3, 16)
    assert w.item() == pytest.approx(1 - 0.1 * 3 * (1 + 0.5 * 3 / norm), rel=1e-9)
    assert v.item() == pytest.approx(2 - 0.1 * 4 * (2 + 0.5 * 32 / norm), rel=1e-9)


def with_norm() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    return model, torch.randn(16, 6) * 3 + 1


def closure_over(model: nn.Module, x: Tensor):
    def closure() -> Tensor:
        model.zero_grad()
        with torch.enable_grad():
            loss = model(x).square().mean()
        loss.backward()
        return loss.detach()

    return closure


@pytest.mark.parametrize("name", PERTURBING)
def test_weights_are_restored_bit_for_bit_and_statistics_updated_once(name):
    model, x = with_norm()
    plain = copy.deepcopy(model)
    weights = [p.detach().clone() for p in model.parameters()]
    # A perturbation so large that its subtraction would round.
    optimizer = wrap(name, list(model.parameters()), model, lr=0.0, rho=1000.0)
    optimizer.step(closure_over(model, x))
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))
    plain(x)  # one forward pass with the unperturbed weights
    for (key, one), other in zip(model.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, other), key
    assert model[1].num_batches_tracked == 1


@pytest.mark.parametrize("name", PERTURBING)
def test_without_a_model_the_weights_alone_are_restored(name):
    model, x = with_norm()
    optimizer = wrappers[name].build(base=torch.optim.SGD(model.parameters(), lr=0.0))
    weights = [p.detach().clone() for p in model.parameters()]
    optimizer.step(closure_over(model, x))
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))
    assert model[1].num_batches_tracked == 2


@pytest.mark.parametrize("name", ["sam", "asam"])
def test_sam_and_asam_have_no_state_besides_that_of_the_base(name):
    model, x = with_norm()
    optimizer = wrap(name, list(model.parameters()), model, momentum=0.9)
    optimizer.step(closure_over(model, x))
    mine, theirs = optimizer.state_dict(), optimizer.base.state_dict()
    assert mine.keys() == theirs.keys()
    assert mine["param_groups"] == theirs["param_groups"]
    assert all(set(state) == {"momentum_buffer"} for state in mine["state"].values())


def norm(values: list[np.ndarray]) -> float:
    return float(np.sqrt(sum((v**2).sum() for v in values)))


@pytest.mark.parametrize(
    ("name", "options", "scaled"),
    [
        ("sam", {}, lambda name: False),
        ("asam", {"eta": 0.05}, lambda name: True),
        ("asam", {"eta": 0.05, "adaptive": "weights"}, lambda name: "weight" in name),  # the authors' code
    ],
)
def test_sam_and_asam_take_ten_steps_of_their_papers_with_momentum_and_weight_decay(name, options, scaled):
    model = Net()
    optimizer, closure = wrapped(name, model, rho=0.2, **options), Closure(model)
    step, values = SGD(), values_of(model)
    names = [parameter for parameter, _ in model.named_parameters()]
    for _ in range(10):
        optimizer.step(closure)
        gradients = gradient_of_net(values)
        scales = [np.abs(w) + 0.05 if scaled(n) else 1.0 for n, w in zip(names, values, strict=True)]
        length = norm([s * g for s, g in zip(scales, gradients, strict=True)])
        perturbed = [w + 0.2 * s**2 * g / length for w, s, g in zip(values, scales, gradients, strict=True)]
        values = step(values, gradient_of_net(perturbed))
    assert_values(model, values)


def test_asam_knows_the_weights_by_their_names_in_a_model():
    with pytest.raises(ValueError, match="adaptive must be all without a model, got 'weights'"):
        ASAM(torch.optim.SGD(Net().parameters()), adaptive="weights")


def test_looksam_perturbs_every_few_steps_and_reuses_the_orthogonal_part():
    model, rho, alpha, every = Net(), 0.2, 0.6, 3
    optimizer = wrapped("looksam", model, rho=rho, alpha=alpha, every=every)
    closure, step, values = Closure(model), SGD(), values_of(model)
    for t in range(10):
        optimizer.step(closure)
        gradients = gradient_of_net(values)
        if t % every == 0:
            radius = rho / norm(gradients)
            perturbed = gradient_of_net([w + radius * g for w, g in zip(values, gradients, strict=True)])
            dot = sum((a * b).sum() for a, b in zip(perturbed, gradients, strict=True))
            cosine = dot / norm(perturbed) / norm(gradients)
            along = norm(perturbed) * cosine / norm(gradients)
            kept = [a - along * g for a, g in zip(perturbed, gradients, strict=True)]
            assert abs(sum((k * g).sum() for k, g in zip(kept, gradients, strict=True))) < 1e-9
            used = perturbed
        else:
            scale = alpha * norm(gradients) / norm(kept)
            used = [g + scale * k for g, k in zip(gradients, kept, strict=True)]
        values = step(values, used)
    assert_values(model, values)
    assert closure.calls == 10 + 4  # perturbations in steps 0, 3, 6 and 9


def test_looksam_that_perturbs_in_every_step_equals_sam():
    one, other = Net(), Net()
    for model, name, options in ((one, "sam", {}), (other, "looksam", {"every": 1})):
        optimizer = wrapped(name, model, rho=0.1, **options)
        for _ in range(4):
            optimizer.step(Closure(model))
    assert_values(one, values_of(other))


def test_looksam_perturbs_again_after_an_overflow_at_the_perturbed_weights():
    model = Net()
    optimizer, calls = wrapped("looksam", model), []
    before = values_of(model)

    def overflowing() -> Tensor:
        loss = Closure(model)()
        calls.append(loss)
        if len(calls) == 2:
            raise Overflow
        return loss

    with pytest.raises(Overflow):
        optimizer.step(overflowing)
    assert_values(model, before)
    assert optimizer.steps == 0 and optimizer.kept is None and not optimizer.base.state
    optimizer.step(overflowing)
    assert len(calls) == 4 and optimizer.steps == 1


@pytest.mark.parametrize("name", PERTURBING)
def test_a_step_without_gradients_changes_nothing(name):
    w = torch.ones(3, requires_grad=True)
    optimizer = wrappers[name].build(base=torch.optim.SGD([w], lr=0.1), model=None)
    assert optimizer.step(lambda: torch.tensor(2.0)) == 2
    assert torch.equal(w, torch.ones(3))
