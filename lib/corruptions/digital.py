"""Digital corruptions. Severities are those of CIFAR-10-C (Hendrycks & Dietterich 2019, arXiv:1903.12261)."""

import torch
from torch import Tensor

from ..core.registry import corruptions
from ..core.rng import Rng
from .filters import BORDERS, Severity, gaussian, pixels, unit


@corruptions.register("contrast")
def contrast(x: Tensor, severity: Severity) -> Tensor:
    """Lower contrast: each channel is moved towards its mean."""
    kept = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    image = unit(x)
    return pixels(torch.lerp(image.mean((2, 3), keepdim=True), image, kept))


@corruptions.register("elastic_transform")
def elastic_transform(x: Tensor, severity: Severity, rng: Rng) -> Tensor:
    """A random affine map, then smooth local shifts.

    The published severities trade one for the other: the first has the largest affine map and no shifts.
    """
    shift, smoothness, jitter = (
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity - 1]
    B, _, H, W = x.shape
    side = min(H, W)
    affine = _affine(x, jitter * side, rng.fold("affine"))
    row, column = torch.arange(H, device=x.device)[:, None], torch.arange(W, device=x.device)
    Y, X = (affine[:, i, 0] * column + affine[:, i, 1] * row + affine[:, i, 2] for i in (1, 0))
    image = _interpolated(unit(x), Y, X, "mirror")
    if not shift:
        return pixels(image)
    # The deviation of the blur and the length of the shifts are fractions of the side.
    shifts = 2 * rng.uniform(B, 2, H, W, like=x) - 1
    shifts = shift * side * gaussian(shifts, smoothness * side, truncate=3, mode="mirror_edge")
    return pixels(_interpolated(image, row + shifts[:, 0], column + shifts[:, 1], "mirror_edge"))


def _affine(x: Tensor, jitter: float, rng: Rng) -> Tensor:
    """(B, 2, 3, 1, 1) maps of places (x, y) in the result to places in the image.

    Three corners of a square around the centre move by up to `jitter` pixels along each axis.
    """
    B, _, H, W = x.shape
    reach = max(1, min(H, W) // 3)
    # (3, 2) points (x, y): two opposite corners, and one of the others.
    corners = torch.tensor([(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)], device=x.device) * reach
    corners = corners + torch.tensor((W // 2, H // 2), device=x.device)
    moved = corners + jitter * (2 * rng.uniform(B, 3, 2, like=x) - 1)
    # The map that takes the moved points back: columns (x, y, 1) of three points times it are the old ones.
    inverse = torch.linalg.solve(torch.cat((moved, torch.ones_like(moved[..., :1])), 2), corners)
    return inverse.transpose(1, 2)[..., None, None]


def _interpolated(x: Tensor, Y: Tensor, X: Tensor, border: str) -> Tensor:
    """The images at real coordinates Y and X, both (B, H, W), by bilinear interpolation."""
    B, C, H, W = x.shape
    top, left = Y.floor(), X.floor()
    down, right = (Y - top).view(B, 1, -1), (X - left).view(B, 1, -1)
    flat, mirror = x.flatten(2), BORDERS[border]

    def at(row: Tensor, column: Tensor) -> Tensor:
        place = mirror(row.long(), H) * W + mirror(column.long(), W)
        return flat.gather(2, place.view(B, 1, -1).expand(-1, C, -1))

    above = torch.lerp(at(top, left), at(top, left + 1), right)
    below = torch.lerp(at(top + 1, left), at(top + 1, left + 1), right)
    return torch.lerp(above, below, down).view(x.shape)


@corruptions.register("pixelate")
def pixelate(x: Tensor, severity: Severity) -> Tensor:
    """Downsample and upsample with Pillow's BOX filter."""
    scale = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    H, W = x.shape[-2:]
    small = max(1, int(H * scale)), max(1, int(W * scale))
    return _resized(_resized(x, *small), H, W)


def _resized(x: Tensor, H: int, W: int) -> Tensor:
    """Resize rows, then columns, with integer values in between."""
    across, down = _box(x.shape[-1], W, x), _box(x.shape[-2], H, x)
    x = ((x.float() @ across.T) + 0.5).floor()
    return ((down @ x) + 0.5).floor().clamp_(0, 255).to(torch.uint8)


def _box(before: int, after: int, like: Tensor) -> Tensor:
    """(after, before) weights: the pixels whose centres lie within each new pixel, or the nearest one."""
    scale = before / after
    reach = max(scale, 1.0)
    centre = (torch.arange(after, dtype=torch.float64) + 0.5) * scale
    offset = (torch.arange(before, dtype=torch.float64) + 0.5 - centre[:, None]) / reach
    weights = ((offset > -0.5) & (offset <= 0.5)).float()
    return (weights / weights.sum(1, keepdim=True)).to(like.device)
