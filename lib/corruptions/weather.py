"""Weather. Severities are those of CIFAR-10-C (Hendrycks & Dietterich 2019, arXiv:1903.12261)."""

import torch
from torch import Tensor

from ..core.registry import corruptions
from ..core.rng import Rng
from .filters import Severity, motion_blurred, pixels, plasma, unit, zoomed

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@corruptions.register("snow")
def snow(x: Tensor, severity: Severity, rng: Rng) -> Tensor:
    """Streaks in one direction and its opposite, over a paler image."""
    mean, deviation, zoom, threshold, radius, sigma, kept = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    image = unit(x)
    flakes = zoomed(mean + deviation * rng.normal(len(x), 1, *x.shape[2:], like=x), zoom)
    flakes = torch.where(flakes < threshold, 0, flakes).clamp(0, 1)
    degrees = -135 + 90 * rng.uniform(len(x), like=x)
    streaks = motion_blurred(flakes, radius, sigma, degrees)
    pale = torch.maximum(image, 1.5 * _grey(image) + 0.5)
    return pixels(kept * image + (1 - kept) * pale + streaks + streaks.flip(2, 3))


def _grey(x: Tensor) -> Tensor:
    """(B, 1, H, W) luma of three channels, or the mean of any other number."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * torch.tensor(LUMA, device=x.device)[:, None, None]).sum(1, keepdim=True)


@corruptions.register("frost")
def frost(x: Tensor, severity: Severity, rng: Rng) -> Tensor:
    """Ice on a window: a bluish white texture of ridges; CIFAR-10-C uses photographs."""
    kept, ice = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    # The contours at the middle height of clouds look like the ribs of ice.
    ridges = 1 - (2 * plasma(x, 1.4, rng.fold("ridges")) - 1).abs()
    grain = plasma(x, 1.1, rng.fold("grain"))
    tint = torch.tensor((0.82, 0.92, 1.0) if x.shape[1] == 3 else (0.92,), device=x.device)[:, None, None]
    return pixels(kept * unit(x) + ice * tint * (0.7 * ridges**2 + 0.3 * grain))


@corruptions.register("fog")
def fog(x: Tensor, severity: Severity, rng: Rng) -> Tensor:
    """Clouds in front of the image, which keeps its brightest value."""
    thickness, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    image = unit(x)
    brightest = image.amax((1, 2, 3), keepdim=True)
    return pixels((image + thickness * plasma(x, decay, rng)) * brightest / (brightest + thickness))


@corruptions.register("brightness")
def brightness(x: Tensor, severity: Severity) -> Tensor:
    """Daylight: a higher value in the HSV colour model, with the same hue and saturation."""
    more = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    image = unit(x)
    value = image.amax(1, keepdim=True)
    brighter = (value + more).clamp(max=1)
    # Channels keep their ratio to the value. Black has none, and becomes grey.
    return pixels(torch.where(value > 0, image * (brighter / value.clamp(min=1e-6)), brighter))
