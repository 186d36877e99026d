"""Filters and textures that corruptions share. Images are float (B, C, H, W)."""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor

from ..core.rng import Rng

Severity = Annotated[int, Interval(ge=1, le=5)]


def unit(x: Tensor) -> Tensor:
    """uint8 pixels as floats from 0 to 1."""
    return x.float() / 255


def pixels(x: Tensor) -> Tensor:
    """Floats from 0 to 1 as the nearest uint8 pixels."""
    return (x * 255).round_().clamp_(0, 255).to(torch.uint8)


def gaussian_taps(sigma: float, radius: int, like: Tensor) -> Tensor:
    """The weights of 2 * radius + 1 pixels in a row."""
    place = torch.arange(-radius, radius + 1, dtype=torch.float32, device=like.device)
    weights = torch.exp(-0.5 * (place / sigma) ** 2) if sigma else (place == 0).float()
    return weights / weights.sum()


def padded(x: Tensor, by: int, mode: str) -> Tensor:
    """The image padded by "repeat", "mirror" (at the edge), "mirror_edge" (the edge twice) or "zero"."""
    if mode == "zero":
        return F.pad(x, (by,) * 4)
    # Not F.pad, because the border may be wider than the image.
    places = ((torch.arange(-by, side + by, device=x.device), side) for side in x.shape[-2:])
    rows, columns = (BORDERS[mode](*place) for place in places)
    return x[..., rows, :][..., columns]


def mirrored(place: Tensor, size: int) -> Tensor:
    """Indices outside the image mirrored into it, without repeating the edge."""
    period = max(1, 2 * (size - 1))
    place = place.remainder(period)
    return torch.minimum(place, period - place)


def mirrored_edge(place: Tensor, size: int) -> Tensor:
    """Indices outside the image mirrored into it, with the edge repeated."""
    place = place.remainder(2 * size)
    return torch.minimum(place, 2 * size - 1 - place)


BORDERS = {
    "repeat": lambda place, size: place.clamp(0, size - 1),
    "mirror": mirrored,
    "mirror_edge": mirrored_edge,
}


def filtered(x: Tensor, kernel: Tensor, mode: str) -> Tensor:
    """Each channel convolved with the same kernel (n, n), n odd."""
    n = len(kernel)
    weight = kernel.expand(x.shape[1], 1, n, n)
    return F.conv2d(padded(x, n // 2, mode), weight, groups=x.shape[1])


def gaussian(x: Tensor, sigma: float, truncate: float = 4.0, mode: str = "repeat") -> Tensor:
    """A Gaussian blur, cut off `truncate` standard deviations from its centre."""
    taps = gaussian_taps(sigma, int(truncate * sigma + 0.5), x)
    return filtered(x, taps[:, None] * taps, mode)


def motion_blurred(x: Tensor, radius: int, sigma: float, degrees: Tensor) -> Tensor:
    """Blur each image along a line, with the weights of half a Gaussian and nearest pixels.

    Args:
        radius: the trail has 2 * radius + 1 pixels.
        degrees: (B,) direction of each image, clockwise from the right.
    """
    B, C, H, W = x.shape
    taps = gaussian_taps(sigma, 2 * radius, x)[2 * radius :]
    taps = taps / taps.sum()
    angle = degrees * (math.pi / 180)
    row, column = torch.arange(H, device=x.device)[:, None], torch.arange(W, device=x.device)
    flat, trail = x.flatten(2), 0.0
    for n, weight in enumerate(taps):
        dy, dx = ((n * way - 0.5).ceil().long()[:, None, None] for way in (angle.sin(), angle.cos()))
        source = (row + dy).clamp(0, H - 1) * W + (column + dx).clamp(0, W - 1)
        trail = trail + weight * flat.gather(2, source.view(B, 1, -1).expand(-1, C, -1))
    return trail.view(x.shape)


def zoomed(x: Tensor, factor: float) -> Tensor:
    """The centre of the image, enlarged to its full size."""
    crops, sizes = [], []
    for size in x.shape[-2:]:
        crop = math.ceil(size / factor)
        crops.append(slice((size - crop) // 2, (size - crop) // 2 + crop))
        sizes.append(round(crop * factor))
    large = F.interpolate(x[..., crops[0], crops[1]], size=sizes, mode="bilinear", align_corners=True)
    top, left = ((large.shape[-2:][d] - x.shape[-2:][d]) // 2 for d in (0, 1))
    return large[..., top : top + x.shape[-2], left : left + x.shape[-1]]


def plasma(x: Tensor, decay: float, rng: Rng) -> Tensor:
    """(B, 1, H, W) random clouds from 0 to 1 for each image: the diamond-square fractal on a torus.

    Args:
        x: images that give the shape and the device.
        decay: the amplitude of the noise is divided by its square from each scale to the next finer one.
    """
    B, _, H, W = x.shape
    side = 2 ** max(1, math.ceil(math.log2(max(H, W))))
    heights, step, amplitude = torch.zeros(B, side, side, device=x.device), side, 1.0
    while step > 1:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        centres = _bumped((pairs + pairs.roll(-1, 2)) / 4, amplitude, rng)
        heights[:, half::step, half::step] = centres
        across = corners + corners.roll(-1, 2) + centres + centres.roll(1, 1)
        down = corners + corners.roll(-1, 1) + centres + centres.roll(1, 2)
        heights[:, ::step, half::step] = _bumped(across / 4, amplitude, rng)
        heights[:, half::step, ::step] = _bumped(down / 4, amplitude, rng)
        step, amplitude = half, amplitude / decay**2
    heights = heights - heights.amin((1, 2), keepdim=True)
    heights = heights / heights.amax((1, 2), keepdim=True).clamp(min=1e-12)
    return heights[:, None, :H, :W]


def _bumped(mean: Tensor, amplitude: float, rng: Rng) -> Tensor:
    return mean + amplitude * (2 * rng.uniform(*mean.shape, like=mean) - 1)
