"""Blurs. Severities are those of CIFAR-10-C (Hendrycks & Dietterich 2019, arXiv:1903.12261)."""

import numpy as np
import torch
from torch import Tensor

from ..core.registry import corruptions
from ..core.rng import Rng
from .filters import Severity, filtered, gaussian, gaussian_taps, motion_blurred, pixels, unit, zoomed


@corruptions.register("defocus_blur")
def defocus_blur(x: Tensor, severity: Severity) -> Tensor:
    """Lens out of focus: each point becomes a disc with soft edges."""
    radius, softness = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    reach = int(radius) + 1  # of the disc and its edge
    place = torch.arange(-reach, reach + 1, device=x.device)
    disc = (place**2 + place[:, None] ** 2 <= radius**2).float()[None, None]
    taps = gaussian_taps(softness, 1, x)
    soft = filtered(disc / disc.sum(), taps[:, None] * taps, "zero")[0, 0]
    return pixels(filtered(unit(x), soft, "mirror"))


@corruptions.register("glass_blur")
def glass_blur(x: Tensor, severity: Severity, rng: Rng) -> Tensor:
    """Frosted glass: each pixel is replaced by a neighbour, between two slight blurs."""
    sigma, rounds = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]
    scattered = pixels(gaussian(unit(x), sigma)).flatten(2)
    for n in range(rounds):
        source = _neighbours(x, rng.fold(n))
        scattered = scattered.gather(2, source[:, None].expand_as(scattered))
    return pixels(gaussian(unit(scattered.view(x.shape)), sigma))


def _neighbours(x: Tensor, rng: Rng) -> Tensor:
    """(B, H * W) index of the pixel that replaces each: itself, or the one above, left, or above left.

    CIFAR-10-C copies pixels too: it means to swap them, but the second half of the swap reads what the first
    has overwritten. Two rows and columns at the edges do not change.
    """
    B, _, H, W = x.shape
    up, left = rng.integers(0, 2, 2, B, H, W, like=x)
    row, column = torch.arange(H, device=x.device)[:, None], torch.arange(W, device=x.device)
    inner = ((row >= 2) & (column >= 2)).long()
    return (row * W + column - inner * (up * W + left)).flatten(1)


@corruptions.register("motion_blur")
def motion_blur(x: Tensor, severity: Severity, rng: Rng) -> Tensor:
    """Moving camera, within 45 degrees of the horizontal."""
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    degrees = 90 * rng.uniform(len(x), like=x) - 45
    return pixels(motion_blurred(unit(x), radius, sigma, degrees))


@corruptions.register("zoom_blur")
def zoom_blur(x: Tensor, severity: Severity) -> Tensor:
    """Camera moving towards the object: a mean of enlargements."""
    end = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    whole = unit(x)
    factors = [float(f) for f in np.arange(1, end, 0.01)]  # as published; rounding may add one at the end
    return pixels((whole + sum(zoomed(whole, factor) for factor in factors)) / (len(factors) + 1))
