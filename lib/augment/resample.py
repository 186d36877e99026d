"""Affine resampling of images, with the pixels of Pillow's `Image.transform`."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor

Byte = Annotated[int, Interval(ge=0, le=255)]  # a value of uint8 pixels
Fill = int | tuple[int, ...]  # value of pixels from outside the image, for all channels or for each
Resample = Literal["nearest", "bilinear", "bicubic"]

FIXED = 16  # fractional bits of Pillow's coordinates: the same ones give the same nearest pixels


def affine(x: Tensor, matrix: Tensor, fill: Fill = 0, resample: Resample = "nearest") -> Tensor:
    """Resample each image by an affine map from places in the result to places in the image.

    Args:
        matrix: (n, 2, 3) rows (a, b, c) and (d, e, f): the point (X, Y) of the result is the point
            (aX + bY + c, dX + eY + f) of the image. Pixel (i, j) covers [j, j+1) x [i, i+1): its centre is at
            (j + 0.5, i + 0.5). Sides up to 32,767 pixels.
        resample: take the pixel that a point lies in, or interpolate 4 or 16 pixels around it.
    """
    if resample != "nearest":
        return _interpolated(x, matrix, fill, _linear if resample == "bilinear" else _cubic)
    n, _, H, W = x.shape
    fixed = torch.floor(_at_centres(matrix) * 2**FIXED + 0.5).int().to(x.device, non_blocking=True)
    column, row = (torch.arange(size, dtype=torch.int32, device=x.device) for size in (W, H))
    # Places outside take a pixel of the frame around the image, so that nothing has to be masked.
    X, Y = (
        (
            fixed[:, i, 0, None, None] * column
            + (fixed[:, i, 1, None] * row + fixed[:, i, 2, None])[:, :, None]
        )
        .bitwise_right_shift_(FIXED)
        .clamp_(-1, size)
        for i, size in ((0, W), (1, H))
    )
    source = Y.mul_(W + 2).add_(X).add_(W + 3).long()
    return _look_up(_framed(x, fill), source.view(n, 1, -1)).view(x.shape)


def _at_centres(matrix: Tensor) -> Tensor:
    """The map from indices of pixels in the result to places in the image."""
    return torch.cat((matrix[:, :, :2], matrix[:, :, 2:] + matrix[:, :, :2].sum(2, keepdim=True) / 2), 2)


def _framed(x: Tensor, fill: Fill) -> Tensor:
    """The pixels (n, C, (H + 2) * (W + 2)) of the images with a frame of one pixel."""
    n, C, H, W = x.shape
    framed = x.new_empty(n, C, H + 2, W + 2)
    for channel, value in enumerate(fill if isinstance(fill, tuple) else (fill,) * C):
        for edge in (framed[:, channel, :: H + 1], framed[:, channel, :, :: W + 1]):
            edge.fill_(value)
    framed[:, :, 1:-1, 1:-1] = x
    return framed.view(n, C, -1)


def _look_up(pixels: Tensor, source: Tensor) -> Tensor:
    """`pixels` (n, C, p) at `source` (n, 1, q) in every channel."""
    return pixels.gather(2, source.expand(-1, pixels.shape[1], -1))


def _interpolated(x: Tensor, matrix: Tensor, fill: Fill, taps: Callable) -> Tensor:
    """`affine` with the weights of `taps`; the border repeats beyond itself."""
    n, _, H, W = x.shape
    inverse = _at_centres(matrix).to(x.device, torch.float32, non_blocking=True)[:, :, :, None, None]
    column, row = torch.arange(W, device=x.device), torch.arange(H, device=x.device)[:, None]
    X, Y = (inverse[:, i, 0] * column + inverse[:, i, 1] * row + inverse[:, i, 2] for i in (0, 1))
    pixels, total = x.float().flatten(2), 0.0
    for i, down in taps(Y - 0.5):
        for j, across in taps(X - 0.5):
            source = i.clamp(0, H - 1) * W + j.clamp(0, W - 1)
            weight = (down * across).view(n, 1, -1)
            total = total + weight * _look_up(pixels, source.view(n, 1, -1))
    mixed = total.add_(1e-3).clamp_(0, 255).to(torch.uint8).view(x.shape)  # Pillow truncates doubles
    inside = (X >= 0) & (X < W) & (Y >= 0) & (Y < H)
    outside = _framed(x, fill)[:, :, :1, None]
    return torch.where(inside[:, None], mixed, outside)


def _linear(place: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The indices of the two pixels around a place, with their weights."""
    first = place.floor()
    d, first = place - first, first.long()
    return [(first, 1 - d), (first + 1, d)]


def _cubic(place: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Four pixels and their weights in cubic convolution (Keys 1981), with a = -1 as in Pillow."""
    first = place.floor()
    d, first = place - first, first.long()
    e = 1 - d
    near, far = (lambda t: 1 - 2 * t**2 + t**3), (lambda t: -t * (1 - t) ** 2)
    return [(first - 1, far(d)), (first, near(d)), (first + 1, near(e)), (first + 2, far(e))]
