"""Noise. Severities are those of CIFAR-10-C (Hendrycks & Dietterich 2019, arXiv:1903.12261)."""

from torch import Tensor

from ..core.registry import corruptions
from ..core.rng import Rng
from .filters import Severity, pixels, unit


@corruptions.register("gaussian_noise")
def gaussian_noise(x: Tensor, severity: Severity, rng: Rng) -> Tensor:
    """Sensor noise in poor light: normal, independent in every channel."""
    deviation = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return pixels(unit(x) + deviation * rng.normal(*x.shape, like=x))


@corruptions.register("shot_noise")
def shot_noise(x: Tensor, severity: Severity, rng: Rng) -> Tensor:
    """Photon noise: the number of photons has a Poisson distribution."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return pixels(rng.poisson(unit(x) * photons) / photons)


@corruptions.register("impulse_noise")
def impulse_noise(x: Tensor, severity: Severity, rng: Rng) -> Tensor:
    """Bit errors: some values of any channel become black or white."""
    amount = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    u = rng.uniform(*x.shape, like=x)
    return x.masked_fill(u < amount, 255).masked_fill(u < amount / 2, 0)
