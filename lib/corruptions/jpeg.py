"""JPEG compression on the device: the losses of the format, without writing a file.

ITU-T T.81 (1992): blocks of 8 by 8, the DCT of annex A.3.3, the example tables of annex K.1 scaled by the
quality as libjpeg does, colours at half the resolution in both directions and interpolated back. The
qualities are those of CIFAR-10-C (Hendrycks & Dietterich 2019, arXiv:1903.12261). The lossless coding of the
coefficients is left out.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.registry import corruptions
from .filters import Severity, padded

# Tables K.1 and K.2.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# JFIF: red, green and blue to Y, Cb and Cr, which are centred at 128.
TO_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


@corruptions.register("jpeg_compression")
def jpeg_compression(x: Tensor, severity: Severity) -> Tensor:
    """JPEG file of low quality."""
    return jpeg(x, (80, 65, 58, 50, 40)[severity - 1])


def jpeg(x: Tensor, quality: int) -> Tensor:
    """The pixels of a JPEG file of this quality. Three channels are red, green and blue."""
    luminance, chrominance = (_table(table, quality, x.device) for table in (LUMINANCE, CHROMINANCE))
    if x.shape[1] != 3:
        return _through_blocks(x.float(), luminance).to(torch.uint8)
    H, W = x.shape[-2:]
    ycc = _times(torch.tensor(TO_YCC, device=x.device), x.float())
    ycc[:, 1:] += 128
    ycc = ycc.round_()
    y = _through_blocks(ycc[:, :1], luminance)
    colour = _doubled(_through_blocks(_halved(ycc[:, 1:]), chrominance))[..., :H, :W] - 128
    back = torch.tensor(TO_YCC, dtype=torch.float64).inverse().float().to(x.device)
    return _times(back, torch.cat((y, colour), 1)).round_().clamp_(0, 255).to(torch.uint8)


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    """The channels of each pixel multiplied by a matrix (3, 3)."""
    return torch.einsum("dc,bchw->bdhw", matrix, x)


def _table(table: tuple[tuple[int, ...], ...], quality: int, device: torch.device) -> Tensor:
    """Quantisation steps of the coefficients; the table is for quality 50."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = (torch.tensor(table) * scale + 50) // 100
    return steps.clamp(1, 255).float().to(device)


@cache
def _dct() -> Tensor:
    """(8, 8) the orthonormal cosine transform; row u has u half periods."""
    u, x = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
    waves = torch.cos((2 * x + 1) * u * math.pi / 16) / 2
    waves[0] /= math.sqrt(2)
    return waves.float()


def _through_blocks(x: Tensor, steps: Tensor) -> Tensor:
    """Planes (B, C, H, W) after quantising the coefficients of their blocks to `steps`."""
    B, C, H, W = x.shape
    down, right = (-H) % 8, (-W) % 8
    blocks = F.pad(x - 128, (0, right, 0, down), mode="replicate")
    blocks = blocks.view(B, C, (H + down) // 8, 8, (W + right) // 8, 8)
    waves = _dct().to(x.device)
    coefficients = torch.einsum("uy,bchywx,vx->bchwuv", waves, blocks, waves)
    coefficients = (coefficients / steps).round_() * steps
    planes = torch.einsum("uy,bchwuv,vx->bchywx", waves, coefficients, waves)
    planes = planes.reshape(B, C, H + down, W + right)[..., :H, :W]
    return (planes + 128).round_().clamp_(0, 255)


def _halved(x: Tensor) -> Tensor:
    """Means of 2x2 pixels. Halves are rounded down and up in turns, so that there is no drift."""
    H, W = x.shape[-2:]
    x = F.pad(x, (0, W % 2, 0, H % 2), mode="replicate")
    total = 4 * F.avg_pool2d(x, 2)
    bias = 1 + torch.arange(total.shape[-1], device=x.device) % 2
    return ((total + bias) / 4).floor_()


def _doubled(x: Tensor) -> Tensor:
    """Upsample by 2: along each axis, a new pixel is 3/4 the nearest old one and 1/4 the next."""
    wide = padded(x, 1, "repeat")
    rows = 3 * wide[..., 1:-1, :]
    rows = torch.stack((rows + wide[..., :-2, :], rows + wide[..., 2:, :]), 3).flatten(2, 3)
    left, right = 3 * rows[..., 1:-1] + rows[..., :-2], 3 * rows[..., 1:-1] + rows[..., 2:]
    return torch.stack(((left + 8) / 16, (right + 7) / 16), 4).floor_().flatten(3, 4)
