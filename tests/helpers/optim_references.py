"""Optimizers as their papers write them, for one array at a time in float64: slow and simple.

There is one rule per array, called at every step: `rule(w, g, lr)` returns the new weights.
"""

import math

import numpy as np
from numpy import ndarray as Array
from torch import Tensor


def gradient(w: Array | Tensor, t: int) -> Array | Tensor:
    """The gradient at step t of a loss that changes over time."""
    return 0.3 * w + 0.2 * w**3 + 0.1 * (-1) ** t + 0.02 * t


class Rule:
    """Starts with all moments at zero."""

    def __init__(self, decay: float = 0.0, initial_lr: float = 1.0, **options):
        self.decay, self.initial_lr, self.t = decay, initial_lr, 0
        self.m = self.v = self.largest = 0.0
        for key, value in options.items():
            setattr(self, key, value)

    def __call__(self, w: Array, g: Array, lr: float) -> Array:
        self.t += 1
        return self.step(w, g, lr)

    def moments(self, g: Array) -> None:
        beta1, beta2 = self.betas
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g**2

    def corrected(self) -> tuple[Array, Array]:
        beta1, beta2 = self.betas
        return self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)


class SGD(Rule):
    nesterov = False

    def step(self, w, g, lr):
        g = g + self.decay * w
        self.m = self.momentum * self.m + g
        return w - lr * (g + self.momentum * self.m if self.nesterov else self.m)


class Adam(Rule):
    amsgrad = False

    def step(self, w, g, lr):
        self.moments(g + self.decay * w)
        m, v = self.corrected()
        if self.amsgrad:
            self.largest = np.maximum(self.largest, self.v)
            v = self.largest / (1 - self.betas[1] ** self.t)
        return w - lr * m / (np.sqrt(v) + self.eps)


class AdamW(Rule):
    def step(self, w, g, lr):
        self.moments(g)
        m, v = self.corrected()
        return w - lr * m / (np.sqrt(v) + self.eps) - lr * self.decay * w


class RMSprop(Rule):
    def step(self, w, g, lr):
        g = g + self.decay * w
        self.v = self.alpha * self.v + (1 - self.alpha) * g**2
        self.largest = self.alpha * self.largest + (1 - self.alpha) * g  # the mean
        spread = np.sqrt(self.v - self.largest**2 if self.centered else self.v) + self.eps
        self.m = self.momentum * self.m + g / spread
        return w - lr * self.m


class AdaBound(Rule):
    decoupled = False

    def step(self, w, g, lr):
        beta1, beta2 = self.betas
        self.moments(g if self.decoupled else g + self.decay * w)
        if self.decoupled:
            w = w - lr * self.decay * w
        final = self.final_lr * lr / self.initial_lr
        lower = final * (1 - 1 / (self.bound_gamma * self.t + 1))
        upper = final * (1 + 1 / (self.bound_gamma * self.t))
        rate = lr * math.sqrt(1 - beta2**self.t) / (1 - beta1**self.t) / (np.sqrt(self.v) + self.eps)
        return w - np.clip(rate, lower, upper) * self.m


class RAdam(Rule):
    def step(self, w, g, lr):
        beta2 = self.betas[1]
        self.moments(g)
        w = w - lr * self.decay * w
        m, v = self.corrected()
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * self.t * beta2**self.t / (1 - beta2**self.t)
        if length <= 5:
            return w - lr * m
        rectified = math.sqrt(
            (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        )
        return w - lr * rectified * m / (np.sqrt(v) + self.eps)


class Ranger(RAdam):
    slow = None

    def step(self, w, g, lr):
        self.slow = w if self.slow is None else self.slow
        w = super().step(w, g, lr)
        if self.t % self.every == 0:
            w = self.slow = self.slow + self.alpha * (w - self.slow)
        return w


class LARS(Rule):
    clipped = False

    def step(self, w, g, lr):
        rate = lr
        if w.ndim > 1:
            norm = np.linalg.norm(w.ravel())
            local = self.trust * norm / (np.linalg.norm(g.ravel()) + self.decay * norm + self.eps)
            rate = min(local, lr) if self.clipped else lr * local
        self.m = self.momentum * self.m + rate * (g + self.decay * w)
        return w - self.m


class LAMB(Rule):
    def step(self, w, g, lr):
        self.moments(g)
        m, v = self.corrected()
        r = m / (np.sqrt(v) + self.eps) + self.decay * w
        ratio = np.linalg.norm(w.ravel()) / np.linalg.norm(r.ravel()) if w.ndim > 1 else 1.0
        return w - lr * ratio * r


class Lion(Rule):
    def step(self, w, g, lr):
        beta1, beta2 = self.betas
        direction = np.sign(beta1 * self.m + (1 - beta1) * g)
        self.m = beta2 * self.m + (1 - beta2) * g
        return w - lr * (direction + self.decay * w)


class Muon(Rule):
    """Muon for arrays of two or more dimensions, each of `count` stacked matrices; AdamW for all others."""

    count = 1

    def __init__(self, **options):
        super().__init__(**options)
        self.rest = AdamW(self.decay, betas=(0.9, 0.95), eps=1e-8)

    def step(self, w, g, lr):
        if w.ndim < 2:
            return self.rest(w, g, lr * 3e-4 / self.initial_lr)
        self.m = self.momentum * self.m + (1 - self.momentum) * g
        direction = (1 - self.momentum) * g + self.momentum * self.m if self.nesterov else self.m
        steps = [self.orthogonal(part) for part in np.split(direction, self.count)]
        return w - lr * self.decay * w - lr * np.concatenate(steps)

    def orthogonal(self, part: Array) -> Array:
        x = part.reshape(len(part), -1)
        rows, columns = x.shape
        u, s, vt = np.linalg.svd(x / np.linalg.norm(x), full_matrices=False)
        for _ in range(self.iterations):  # an odd polynomial of a matrix is that of its singular values
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        return (u * s @ vt * math.sqrt(max(1, rows / columns))).reshape(part.shape)
