"""Slow, obvious forms of the tricks: loops over images and pixels, written from the papers alone."""

import math
import random

import numpy as np
import torch
from torch import Tensor


def crops(image: np.ndarray, padding: int, mode: str) -> dict[bytes, tuple[int, int]]:
    """Every crop of the padded (H, W) image, with its offset."""
    height, width = image.shape
    padded = np.pad(image, padding, mode={"zero": "constant", "reflect": "reflect"}[mode])
    return {
        padded[top : top + height, left : left + width].tobytes(): (top, left)
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    }


def cutouts(height: int, width: int, size: int) -> dict[bytes, list[tuple[int, int]]]:
    """Every image of ones after cutout, with the centres of the square that make it."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    for row in range(height):
        for column in range(width):
            image = np.ones((height, width), np.float32)
            for i in range(row - size // 2, row - size // 2 + size):
                for j in range(column - size // 2, column - size // 2 + size):
                    if 0 <= i < height and 0 <= j < width:
                        image[i, j] = 0
            found.setdefault(image.tobytes(), []).append((row, column))
    return found


def rectangle(mask: Tensor) -> tuple[int, int, int, int] | None:
    """Top, left, height and width of the marked pixels of (H, W), None if there are none; fails otherwise."""
    if not mask.any():
        return None
    rows, columns = mask.any(1).nonzero()[:, 0].tolist(), mask.any(0).nonzero()[:, 0].tolist()
    top, left, height, width = rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert mask[top : top + height, left : left + width].all(), "not a rectangle"
    return top, left, height, width


def random_erasing_box(
    draw: random.Random, size: tuple[int, int], area: tuple[float, float], ratio: float
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a rectangle in (H, W) pixels, as in the code of Zhong et al. 2017."""
    H, W = size
    while True:
        surface = draw.uniform(*area) * H * W
        shape = draw.uniform(ratio, 1 / ratio)
        height, width = round(math.sqrt(surface * shape)), round(math.sqrt(surface / shape))
        if height < H and width < W:
            return draw.randint(0, H - height), draw.randint(0, W - width), height, width


def cutmix_weight(draw: np.random.Generator, side: int, alpha: float) -> float:
    """The weight of an image's own label, as in the code of Yun et al. 2019."""
    cut = math.sqrt(1 - draw.beta(alpha, alpha))
    length = int(side * cut)
    x, y = draw.integers(side), draw.integers(side)
    x1, x2 = np.clip([x - length // 2, x + length // 2], 0, side)
    y1, y2 = np.clip([y - length // 2, y + length // 2], 0, side)
    return 1 - (x2 - x1) * (y2 - y1) / side**2


def softmax_regression_gradient(weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the mean cross-entropy of x W^T in W: (p - y)^T x / B."""
    scores = torch.exp(x.double() @ weight.double().T)
    p = scores / scores.sum(1, keepdim=True)
    return ((p - y.double()).T @ x.double() / len(x)).float()


def moving_average(start: float, values: list[float], decay: float, warmup: bool = True) -> float:
    """The exponential average as a weighted sum, its decay warmed up by (1 + t) / (10 + t)."""
    decays = [min(decay, (1 + t) / (10 + t)) if warmup else decay for t in range(len(values))]
    weights = [(1 - decays[t]) * math.prod(decays[t + 1 :]) for t in range(len(values))]
    return math.prod(decays) * start + sum(w * v for w, v in zip(weights, values, strict=True))


def resizemix_weight(draw: np.random.Generator, side: int, low: float, high: float) -> float:
    """The weight of an image's own label after Qin et al. 2020: 1 - tau^2, in whole pixels."""
    return 1 - (round(side * draw.uniform(low, high)) / side) ** 2


def crop_paste_weight(draw: np.random.Generator, side: int, alpha: float) -> float:
    """The weight of an image's own label if a box of the drawn area, in whole pixels, is not clipped."""
    return 1 - (round(side * math.sqrt(1 - draw.beta(alpha, alpha))) / side) ** 2


def ricap_weights(draw: np.random.Generator, side: int, beta: float) -> list[float]:
    """The areas of the four patches, from the smallest to the largest: Takahashi et al. 2018, section 3.1."""
    w, h = (round(side * draw.beta(beta, beta)) / side for _ in range(2))
    return sorted([w * h, (1 - w) * h, w * (1 - h), (1 - w) * (1 - h)])


def low_frequency_map(real: np.ndarray, imaginary: np.ndarray, width: int, decay: float) -> np.ndarray:
    """The real map (H, W) of a half spectrum (H, W/2 + 1) weighted by frequency^-decay, wave by wave."""
    height = len(real)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width // 2 + 1):
            up, across = (i if i <= height / 2 else i - height) / height, j / width
            weight = max(math.hypot(up, across), 1 / max(height, width)) ** -decay
            angle = 2 * math.pi * (i * rows / height + j * columns / width)
            wave = real[i, j] * np.cos(angle) - imaginary[i, j] * np.sin(angle)
            twice = 1 if j == 0 or 2 * j == width else 2  # the other half of the spectrum mirrors this one
            out += twice * weight * wave
    return out / (height * width)
