"""Wrappers around an optimizer against their papers, worked out by hand in float64; and their order."""

from itertools import permutations

import numpy as np
import pytest
import torch
from test_compose_tricks import SMALL, TINY, config_of
from torch import Tensor, nn

from lib.core.errors import BadInput
from lib.core.facts import WrapperOrder
from lib.core.precision import Overflow
from lib.core.registry import wrappers
from lib.engine.step import train_step
from lib.factory import build

MOMENTUM, DECAY, LR = 0.8, 0.1, 0.05


class Net(nn.Module):
    """Tensors of one, two and four dimensions, a head, and a loss whose slope turns as they move."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.filters = nn.Conv2d(2, 3, 2)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 2)
        self.double()

    def forward(self) -> Tensor:
        return sum(
            (p**2 / 2 + 0.2 * torch.cos(3 * p) + 0.05 * places(p) * p).sum() for p in self.parameters()
        )


def places(p: Tensor) -> Tensor:
    return torch.arange(p.numel(), dtype=p.dtype).view_as(p)


def slope(values: list[np.ndarray]) -> list[np.ndarray]:
    """The gradient of the loss of `Net`."""
    return [w - 0.6 * np.sin(3 * w) + 0.05 * np.arange(w.size).reshape(w.shape) for w in values]


class Closure:
    """What a run hands to the optimizer, with a count of its calls."""

    def __init__(self, model: nn.Module):
        self.model, self.calls = model, 0

    def __call__(self) -> Tensor:
        self.calls += 1
        self.model.zero_grad()
        with torch.enable_grad():
            loss = self.model()
        loss.backward()
        return loss.detach()


class SGD:
    """By hand: momentum and decay."""

    def __init__(self):
        self.velocity = None

    def __call__(self, values: list[np.ndarray], gradients: list[np.ndarray]) -> list[np.ndarray]:
        changes = [g + DECAY * w for w, g in zip(values, gradients, strict=True)]
        old = self.velocity or [0.0] * len(values)
        self.velocity = [MOMENTUM * v + c for v, c in zip(old, changes, strict=True)]
        return [w - LR * v for w, v in zip(values, self.velocity, strict=True)]


def norm(values: list[np.ndarray]) -> float:
    return float(np.sqrt(sum((v**2).sum() for v in values)))


def wrapped(name: str, model: nn.Module, **options):
    base = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    return wrappers[name].build(base=base, model=model, **options)


def values_of(model: nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in model.parameters()]


def assert_same(model: nn.Module, expected: list[np.ndarray]) -> None:
    for p, other in zip(model.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["sam", "asam"])
def test_sam_and_asam_take_ten_steps_of_the_paper_with_momentum_and_decay(name):
    model = Net()
    options = {"rho": 0.2} | ({"eta": 0.05} if name == "asam" else {})
    optimizer, closure, step, values = (
        wrapped(name, model, **options),
        Closure(model),
        SGD(),
        values_of(model),
    )
    for _ in range(10):
        optimizer.step(closure)
        gradients = slope(values)
        scales = [np.abs(w) + 0.05 if name == "asam" else 1.0 for w in values]
        length = norm([s * g for s, g in zip(scales, gradients, strict=True)])
        top = [w + 0.2 * s**2 * g / length for w, s, g in zip(values, scales, gradients, strict=True)]
        values = step(values, slope(top))
    assert_same(model, values)


def test_looksam_climbs_every_few_steps_and_reuses_the_orthogonal_part():
    model, rho, alpha, every = Net(), 0.2, 0.6, 3
    optimizer = wrapped("looksam", model, rho=rho, alpha=alpha, every=every)
    closure, step, values = Closure(model), SGD(), values_of(model)
    for t in range(10):
        optimizer.step(closure)
        gradients = slope(values)
        if t % every == 0:
            climb = rho / norm(gradients)
            top = slope([w + climb * g for w, g in zip(values, gradients, strict=True)])
            dot = sum((a * b).sum() for a, b in zip(top, gradients, strict=True))
            cosine = dot / norm(top) / norm(gradients)
            along = norm(top) * cosine / norm(gradients)
            kept = [a - along * g for a, g in zip(top, gradients, strict=True)]
            assert abs(sum((k * g).sum() for k, g in zip(kept, gradients, strict=True))) < 1e-9
            used = top
        else:
            share = alpha * norm(gradients) / norm(kept)
            used = [g + share * k for g, k in zip(gradients, kept, strict=True)]
        values = step(values, used)
    assert_same(model, values)
    assert closure.calls == 10 + 4  # the climbs of steps 0, 3, 6 and 9


def test_looksam_that_climbs_at_every_step_is_sam():
    one, other = Net(), Net()
    for model, name, options in ((one, "sam", {}), (other, "looksam", {"every": 1})):
        optimizer = wrapped(name, model, rho=0.1, **options)
        for _ in range(4):
            optimizer.step(Closure(model))
    assert_same(one, values_of(other))


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
    assert_same(model, before)
    assert optimizer.steps == 0 and optimizer.kept is None and not optimizer.base.state
    optimizer.step(overflowing)
    assert len(calls) == 4 and optimizer.steps == 1


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_lookahead_goes_back_a_part_of_the_way_every_few_steps(alpha):
    model, every = Net(), 3
    optimizer = wrapped("lookahead", model, every=every, alpha=alpha)
    closure, step, values = Closure(model), SGD(), values_of(model)
    slow = values
    for t in range(1, 11):
        optimizer.step(closure)
        values = step(values, slope(values))
        if t % every == 0:
            values = slow = [s + alpha * (w - s) for s, w in zip(slow, values, strict=True)]
        assert_same(model, values)


def test_lookahead_counts_no_step_that_an_overflow_has_skipped():
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
    assert_same(model, before)


def test_centralized_gradients_have_mean_zero_for_each_neuron():
    model = Net()
    optimizer, step, values = wrapped("gradient_centralization", model), SGD(), values_of(model)
    for _ in range(10):
        optimizer.step(Closure(model))
        gradients = slope(values)
        for g in gradients:
            for row in g if g.ndim > 1 else ():
                row -= row.mean()
        values = step(values, gradients)
    assert_same(model, values)


def test_adaptive_clipping_bounds_each_neuron_by_its_own_weights_but_spares_the_head():
    model, clip, eps = Net(), 1.5, 0.01
    with torch.no_grad():
        model.filters.weight[0] = 0.0  # counts with eps
        model.filters.weight[1] *= 100  # and this one is within its bound
        model.head.weight *= 0.01  # and this one would not be
    optimizer, step, values = wrapped("agc", model, clip=clip, eps=eps), SGD(), values_of(model)
    names = [name for name, _ in model.named_parameters()]
    clipped = []
    for _ in range(10):
        optimizer.step(Closure(model))
        gradients = slope(values)
        for name, w, g in zip(names, values, gradients, strict=True):
            units = zip(w, g, strict=True) if w.ndim > 1 else [(w, g)]
            for weights, part in () if name.startswith("head") else units:
                bound = clip * max(np.linalg.norm(weights), eps)
                clipped.append(bound < np.linalg.norm(part))
                part *= min(1.0, bound / max(np.linalg.norm(part), 1e-6))
        values = step(values, gradients)
    assert_same(model, values)
    assert any(clipped) and not all(clipped)


# WrapperOrder


def chain(optimizer) -> list[str]:
    """The classes from the outside in."""
    return [type(optimizer).__name__, *(chain(optimizer.base) if hasattr(optimizer, "base") else [])]


def run_with(names, **settings):
    mine = [key.split(".")[1] for key in settings if key.startswith("wrap.")]
    switches = {f"wrap.{name}": True for name in names if name not in mine}
    return build(
        config_of(SMALL | {"model.name": TINY} | switches | settings), torch.device("cpu"), pytest.fail
    )


def test_wrappers_stand_in_the_same_order_whatever_the_order_of_the_flags():
    names = ("lookahead", "looksam", "gradient_centralization", "agc")
    for flags in list(permutations(names))[::5]:
        expected = ["Lookahead", "LookSAM", "GradientCentralization", "AdaptiveGradientClipping", "SGD"]
        assert chain(run_with(flags).optimizer) == expected


def test_every_wrapper_has_a_place_and_climbers_have_the_climbers():
    for entry in wrappers.entries():
        assert isinstance(entry.facts.order, WrapperOrder)
        assert (entry.facts.order is WrapperOrder.PERTURB) == bool(entry.facts.perturbs)


def test_two_climbers_are_refused():
    with pytest.raises(BadInput, match="looksam and sam are two ways to perturb the weights"):
        run_with(["looksam", "sam"])


@pytest.mark.parametrize("name", wrappers.names())
def test_statistics_move_once_a_step(name):
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
def test_a_setting_that_makes_no_sense_is_refused(name, field, value):
    with pytest.raises(BadInput, match=f"wrapper {name}: {field} must be"):
        run_with([name], **{f"wrap.{name}.{field}": value})
