"""Optimizers on convex losses, wrappers by hand."""

import copy
import io
import math

import pytest
import torch
from torch import Tensor, nn

from lib.core.precision import Overflow
from lib.core.registry import optimizers, wrappers
from lib.optim.param_groups import ParamGroups

# Optimizers


def quadratic(w: Tensor) -> Tensor:
    """A convex loss whose lowest point is at 1 to n."""
    return ((w - torch.arange(1, len(w) + 1)) ** 2).sum() / 2


def closure_of(optimizer, w: Tensor, loss=quadratic):
    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            value = loss(w)
        value.backward()
        return value.detach()

    return closure


def lowers(optimizer, w: Tensor) -> bool:
    """Whether ten steps lower the loss and none ends above the start; each must tell the loss before it."""
    before = [quadratic(w).item()]
    for _ in range(10):
        told = optimizer.step(closure_of(optimizer, w))
        assert told.item() == pytest.approx(before[-1])
        before.append(quadratic(w).item())
    return max(before) == before[0] and before[-1] < before[0]  # Lookahead goes back a part of its way


OPTIMIZERS = [*optimizers.names(), "timm/lamb", "timm/lion"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_convex_loss(name):
    w = torch.full((3,), 20.0, requires_grad=True)
    # Momentum overshoots the lowest point at large rates.
    optimizer = optimizers[name].build(params=[{"params": [w]}], lr=0.01)
    assert lowers(optimizer, w)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_saved_optimizer_goes_on_as_if_nothing_had_happened(name):
    def steps(w: Tensor, optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.step(closure_of(optimizer, w))

    whole, first = (torch.full((3,), 20.0, requires_grad=True) for _ in range(2))
    steps(whole, optimizers[name].build(params=[{"params": [whole]}]), 6)
    optimizer = optimizers[name].build(params=[{"params": [first]}])
    steps(first, optimizer, 3)
    second = first.detach().clone().requires_grad_()
    again = optimizers[name].build(params=[{"params": [second]}])
    again.load_state_dict(saved(optimizer.state_dict()))
    steps(second, again, 3)
    assert torch.equal(second, whole)


def saved(state: dict) -> dict:
    """The state by way of a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("sgd", lambda w, g: w - 0.1 * (g + 0.3 * w)),
        ("nesterov", lambda w, g: w - 0.1 * 1.9 * (g + 0.3 * w)),  # the velocity is looked ahead by once
        ("adam", lambda w, g: w - 0.1 * torch.sign(g + 0.3 * w)),
        ("adamw", lambda w, g: w * (1 - 0.1 * 0.3) - 0.1 * torch.sign(g)),
    ],
)
def test_the_first_step_is_that_of_the_papers_formula(name, step):
    start = torch.tensor([2.0, -1.0, 0.5])
    w = start.clone().requires_grad_()
    optimizer = optimizers[name].build(params=[{"params": [w]}], lr=0.1, weight_decay=0.3)
    optimizer.step(closure_of(optimizer, w))
    torch.testing.assert_close(w.detach(), step(start, start - torch.arange(1, 4)))


class Mixed(nn.Module):
    """Every kind of parameter, one of them frozen, with its kind in its name."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.dense, self.layer_norm = nn.Linear(4, 5), nn.LayerNorm(5)
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.linspace(1, 2, p.numel()).view_as(p))


@pytest.mark.parametrize("decays", [True, False])
def test_norm_layers_and_biases_decay_only_if_asked_to(decays):
    model = Mixed()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    groups = ParamGroups(decay_norm_and_bias=decays)(model)
    optimizer = optimizers["sgd"].build(params=groups, lr=0.1, weight_decay=0.5)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)  # so that decay alone moves the weights
    optimizer.step()
    for name, p in model.named_parameters():
        spared = name == "frozen" or (not decays and ("norm" in name or "bias" in name))
        torch.testing.assert_close(p.detach(), before[name] * (1 if spared else 1 - 0.1 * 0.5))


# Wrappers

CLIMBING = [entry.name for entry in wrappers.entries() if entry.facts.perturbs]


def sgd(params: list[Tensor], lr: float = 0.1, momentum: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=lr, momentum=momentum)


def wrap(name: str, params: list[Tensor], model: nn.Module | None = None, base=None, **options):
    return wrappers[name].build(base=base or sgd(params), model=model or nn.Module(), **options)


@pytest.mark.parametrize("name", wrappers.names())
def test_every_wrapper_lowers_a_convex_loss_and_has_the_groups_of_its_base(name):
    w = torch.full((3,), 20.0, requires_grad=True)
    base = sgd([w])
    optimizer = wrap(name, [w], base=base)
    assert optimizer.param_groups is base.param_groups
    assert lowers(optimizer, w)


@pytest.mark.parametrize("name", wrappers.names())
def test_a_saved_wrapper_goes_on_as_if_nothing_had_happened(name):
    def steps(w: Tensor, optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.step(closure_of(optimizer, w))

    whole, first = (torch.full((3,), 20.0, requires_grad=True) for _ in range(2))
    steps(whole, wrap(name, [whole], base=sgd([whole], momentum=0.9)), 6)
    optimizer = wrap(name, [first], base=sgd([first], momentum=0.9))
    steps(first, optimizer, 3)
    second = first.detach().clone().requires_grad_()
    again = wrap(name, [second], base=sgd([second], momentum=0.9))
    again.load_state_dict(saved(optimizer.state_dict()))
    steps(second, again, 3)
    assert torch.equal(second, whole)


@pytest.mark.parametrize("name", wrappers.names())
def test_a_wrapper_takes_no_step_when_the_gradient_overflows(name):
    w, calls = torch.ones(3, requires_grad=True), []
    optimizer = wrap(name, [w], base=sgd([w], momentum=0.9))

    def overflowing() -> Tensor:
        calls.append(1)
        w.grad = torch.full((3,), torch.inf)
        raise Overflow

    with pytest.raises(Overflow):
        optimizer.step(overflowing)
    assert torch.equal(w, torch.ones(3))
    assert len(calls) == 1
    optimizer.step(closure_of(optimizer, w))  # and then goes on
    assert not torch.equal(w, torch.ones(3))


@pytest.mark.parametrize("name", CLIMBING)
def test_no_step_is_taken_when_the_gradient_overflows_at_the_perturbed_weights(name):
    w, calls = torch.ones(3, requires_grad=True), []
    optimizer = wrap(name, [w], base=sgd([w], momentum=0.9))

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
def test_sam_and_asam_on_a_parabola_are_their_closed_forms(start, a):
    # f = a w^2 / 2: SAM's gradient is that at w + rho sign(w), ASAM's at w + rho (|w| + eta) sign(w).
    sign = math.copysign(1, start)
    for name, options, climb in (
        ("sam", {"rho": 0.3}, 0.3),
        ("asam", {"rho": 0.3, "eta": 0.2}, 0.3 * (abs(start) + 0.2)),
    ):
        w = torch.tensor([start], dtype=torch.float64, requires_grad=True)
        optimizer = wrap(name, [w], **options)
        loss = optimizer.step(closure_of(optimizer, w, parabola(a)))
        assert loss.item() == pytest.approx(a * start**2 / 2)
        assert w.item() == pytest.approx(start - 0.1 * a * (start + climb * sign), rel=1e-9)


def test_the_radius_is_that_of_all_the_weights_together():
    # Two tensors, f = (3 w^2 + 4 v^2) / 2 at w = v = 1: the gradient (3, 4) has norm 5.
    w, v = (torch.ones(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = wrap("sam", [w, v], rho=0.5)
    optimizer.step(closure_of(optimizer, (w, v), lambda p: parabola(3, 4)((p[0][0], p[1][0]))))
    assert w.item() == pytest.approx(1 - 0.1 * 3 * (1 + 0.5 * 3 / 5), rel=1e-9)
    assert v.item() == pytest.approx(1 - 0.1 * 4 * (1 + 0.5 * 4 / 5), rel=1e-9)
    # ASAM at w = 1, v = 2, eta = 0: T g = (1*3, 2*8), the climb is rho (1*3, 4*8) / |(3, 16)|.
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


@pytest.mark.parametrize("name", CLIMBING)
def test_a_climber_comes_home_bit_for_bit_and_moves_the_statistics_once(name):
    model, x = with_norm()
    plain = copy.deepcopy(model)
    weights = [p.detach().clone() for p in model.parameters()]
    # A climb so far that to come back by subtraction would round.
    optimizer = wrap(name, [], model, base=sgd(list(model.parameters()), lr=0.0), rho=1000.0)
    optimizer.step(closure_over(model, x))
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), weights, strict=True))
    plain(x)  # one forward, at home
    for (key, one), other in zip(model.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, other), key
    assert model[1].num_batches_tracked == 1


@pytest.mark.parametrize("name", ["sam", "asam"])
def test_a_climber_that_keeps_nothing_has_no_state_but_its_bases(name):
    model, x = with_norm()
    base = sgd(list(model.parameters()), momentum=0.9)
    optimizer = wrap(name, [], model, base=base)
    optimizer.step(closure_over(model, x))
    mine, theirs = optimizer.state_dict(), base.state_dict()
    assert mine.keys() == theirs.keys()
    assert mine["param_groups"] == theirs["param_groups"]
    assert all(set(state) == {"momentum_buffer"} for state in mine["state"].values())
