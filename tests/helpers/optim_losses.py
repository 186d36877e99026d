"""Small losses with known gradients, and the closures that optimizers call on them."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lib.core.registry import wrappers

MOMENTUM, DECAY, LR = 0.8, 0.1, 0.05  # of SGD on Net


def quadratic(w: Tensor) -> Tensor:
    """A convex loss with its minimum at 1 to n."""
    return ((w - torch.arange(1, len(w) + 1)) ** 2).sum() / 2


def closure_of(optimizer, w: Tensor, loss=quadratic) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            value = loss(w)
        value.backward()
        return value.detach()

    return closure


def lowers(optimizer, w: Tensor) -> bool:
    """Whether ten steps lower the loss and none ends above the start; each must return the loss before it."""
    before = [quadratic(w).item()]
    for _ in range(10):
        returned = optimizer.step(closure_of(optimizer, w))
        assert returned.item() == pytest.approx(before[-1])
        before.append(quadratic(w).item())
    return max(before) == before[0] and before[-1] < before[0]  # Lookahead goes back a part of its way


def reloaded(state: dict) -> dict:
    """The state, saved to a file and loaded."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Net(nn.Module):
    """Tensors of one, two and four dimensions, a head, and a loss that is not convex."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.filters = nn.Conv2d(2, 3, 2)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 2)
        self.double()

    def forward(self) -> Tensor:
        return sum(
            (p**2 / 2 + 0.2 * torch.cos(3 * p) + 0.05 * _numbers(p) * p).sum() for p in self.parameters()
        )


def _numbers(p: Tensor) -> Tensor:
    return torch.arange(p.numel(), dtype=p.dtype).view_as(p)


def gradient_of_net(values: list[np.ndarray]) -> list[np.ndarray]:
    """The gradient of the loss of `Net`."""
    return [w - 0.6 * np.sin(3 * w) + 0.05 * np.arange(w.size).reshape(w.shape) for w in values]


def values_of(model: nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in model.parameters()]


def assert_values(model: nn.Module, expected: list[np.ndarray]) -> None:
    for p, other in zip(model.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), other, rtol=1e-9, atol=1e-11)


class Closure:
    """The closure of a training step of `Net`, with a count of its calls."""

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
    """Momentum and weight decay for the values of `Net`, by hand."""

    def __init__(self):
        self.velocity = None

    def __call__(self, values: list[np.ndarray], gradients: list[np.ndarray]) -> list[np.ndarray]:
        changes = [g + DECAY * w for w, g in zip(values, gradients, strict=True)]
        old = self.velocity or [0.0] * len(values)
        self.velocity = [MOMENTUM * v + c for v, c in zip(old, changes, strict=True)]
        return [w - LR * v for w, v in zip(values, self.velocity, strict=True)]


def wrapped(name: str, model: nn.Module, **options) -> torch.optim.Optimizer:
    """The wrapper around the same SGD as torch has it."""
    base = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    return wrappers[name].build(base=base, model=model, **options)


def wrap(name: str, params: list[Tensor], model: nn.Module | None = None, **options) -> torch.optim.Optimizer:
    """The wrapper around plain SGD."""
    settings = {key: options.pop(key) for key in ("lr", "momentum") if key in options}
    return wrappers[name].build(
        base=torch.optim.SGD(params, **{"lr": 0.1} | settings), model=model or nn.Module(), **options
    )
