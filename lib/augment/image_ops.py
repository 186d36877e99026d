"""Operations on batches of uint8 images with one magnitude per image, as Pillow defines them.

Images are (n, C, H, W) with one channel or three. Magnitudes are (n,), on the images' device or on the CPU:
there they are the same for every device, and copying them does not wait for it. Names and meanings are those
of `PIL.ImageOps` (posterize, solarize, invert, equalize, autocontrast), `PIL.ImageEnhance` (brightness,
contrast, color, sharpness: 0 is the degenerate image, 1 the image itself) and `PIL.Image.transform`.
"""

import math

import torch
from torch import Tensor

from .resample import Fill, Resample, affine

# Geometry


def shear_x(x: Tensor, slope: Tensor, fill: Fill = 0, resample: Resample = "nearest") -> Tensor:
    """Move rows to the left, by `slope` pixels more with each row down."""
    return affine(x, _matrix((1, slope, 0), (0, 1, 0)), fill, resample)


def shear_y(x: Tensor, slope: Tensor, fill: Fill = 0, resample: Resample = "nearest") -> Tensor:
    """Move columns up, by `slope` pixels more with each column to the right."""
    return affine(x, _matrix((1, 0, 0), (slope, 1, 0)), fill, resample)


def translate_x(x: Tensor, pixels: Tensor, fill: Fill = 0) -> Tensor:
    """Move to the right by `pixels`, to the left where they are negative."""
    return affine(x, _matrix((1, 0, -pixels), (0, 1, 0)), fill)


def translate_y(x: Tensor, pixels: Tensor, fill: Fill = 0) -> Tensor:
    """Move down by `pixels`, up where they are negative."""
    return affine(x, _matrix((1, 0, 0), (0, 1, -pixels)), fill)


def rotate(x: Tensor, degrees: Tensor, fill: Fill = 0, resample: Resample = "nearest") -> Tensor:
    """Rotate around the centre, counterclockwise."""
    H, W = x.shape[-2:]
    angle = degrees * (-math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    centre = torch.stack((W / 2 - cos * (W / 2) - sin * (H / 2), H / 2 + sin * (W / 2) - cos * (H / 2)))
    return affine(x, _matrix((cos, sin, centre[0]), (-sin, cos, centre[1])), fill, resample)


def _matrix(*rows: tuple[Tensor | float, ...]) -> Tensor:
    """(n, 2, 3) from entries that are (n,) or the same for all."""
    like = next(entry for row in rows for entry in row if isinstance(entry, Tensor))
    entries = [e if isinstance(e, Tensor) else torch.full_like(like, e) for row in rows for e in row]
    return torch.stack(entries, 1).view(-1, 2, 3)


def cut_square(x: Tensor, side: Tensor, place: Tensor, fill: int = 0) -> Tensor:
    """Fill a square, clipped by the border.

    Args:
        side: (n,) pixels from its first row or column to its last, which are rounded down.
        place: (n, 2) its centre, as fractions of the height and the width.
    """
    inside = []
    for dim, size in enumerate(x.shape[-2:]):
        first = (place[:, dim] * size - side / 2).clamp(min=0).floor()
        ends = torch.stack((first, (first + side).floor()), 1).to(x.device, torch.int32, non_blocking=True)
        pixel = torch.arange(size, dtype=torch.int32, device=x.device)
        inside.append((ends[:, :1] <= pixel) & (pixel <= ends[:, 1:]))
    rows, columns = inside
    return x.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], fill)


# Blends with a degenerate image


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """0 is black."""
    return _clipped(x.float().mul_(_per_image(factor, x)))


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """0 is the mean of the image in grey."""
    pixels = x.shape[2] * x.shape[3]
    rows = _grey(x.float()).sum(3, keepdim=True)  # exact in a float
    total = rows.long().sum(2, keepdim=True)
    mean = torch.div(2 * total + pixels, 2 * pixels, rounding_mode="floor")
    return _blend(mean.float(), x, factor)


def color(x: Tensor, factor: Tensor) -> Tensor:
    """0 is the image in grey. Images of one channel do not change."""
    return _blend(_grey(x.float()), x, factor)


def hue(x: Tensor, turn: Tensor) -> Tensor:
    """Rotate the colour wheel by `turn` turns, at the same value and chroma.

    It is the wheel of HSV (Smith 1978), in floats: rounded to Pillow's three bytes, most colours change even
    without a rotation. Images of one channel have no hue.
    """
    if x.shape[1] == 1:
        return x
    red, green, blue = x.float().split(1, 1)
    high = torch.maximum(torch.maximum(red, green), blue)
    chroma = high - torch.minimum(torch.minimum(red, green), blue)
    # In sixths of a turn from red. Grey has no hue, and does not change because its chroma is 0.
    scale = chroma.clamp(min=1).reciprocal_()
    sixth = torch.where(high == green, (blue - red).mul_(scale).add_(2), (red - green).mul_(scale).add_(4))
    sixth = torch.where(high == red, (green - blue).mul_(scale), sixth)
    # Red, green and blue are full for two sixths, absent for two, and change linearly between them.
    start = 5 - 2 * torch.arange(3, device=x.device)[:, None, None]
    place = sixth + 6 * _per_image(turn, x) + start
    place.sub_((place * (1 / 6)).floor_().mul_(6))  # a third of the time of the remainder
    absent = torch.minimum(place, 4 - place).clamp_(0, 1)
    return absent.mul_(-chroma).add_(high).add_(0.5).to(torch.uint8)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """0 is the smoothed image: weight 5 for the centre, 1 for its eight neighbours; the border stays."""
    wide = x.short()
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = x.float()
    smooth[:, :, 1:-1, 1:-1] = box.add_(4 * wide[:, :, 1:-1, 1:-1]).float().mul_(1 / 13).add_(0.5).floor_()
    return _blend(smooth, x, factor)


def _blend(degenerate: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    return _clipped(x.float().sub_(degenerate).mul_(_per_image(factor, x)).add_(degenerate))


def _clipped(x: Tensor) -> Tensor:
    """Truncated, not rounded, like Pillow."""
    return x.clamp_(0, 255).to(torch.uint8)


def _per_image(value: Tensor, x: Tensor) -> Tensor:
    return value.to(x.device, torch.float32, non_blocking=True)[:, None, None, None]


def _grey(x: Tensor) -> Tensor:
    """(n, 1, H, W) luma (ITU-R BT.601) of float pixels, in Pillow's 16-bit fixed point."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, 1)
    # Whole numbers below 2^24: exact in a float.
    return (red * 19595).add_(green * 38470).add_(blue * 7471).add_(2**15).mul_(2**-16).floor_()


# Functions of a pixel's value


def invert(x: Tensor) -> Tensor:
    return ~x


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keep the `bits` highest bits, rounded to an integer from 0 to 8."""
    mask = (256 - 2 ** (8 - bits.round().clamp(0, 8))).to(x.device, torch.uint8, non_blocking=True)
    return x & mask[:, None, None, None]


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Invert the pixels at and above the threshold, 0 to 256."""
    first = threshold.ceil().to(x.device, torch.int16, non_blocking=True)[:, None, None, None]
    # Compared as bytes: above one less than the first inverted value, or unconditionally.
    inverted = (x > (first - 1).clamp(0, 255).to(torch.uint8)) | (first <= 0)
    return x ^ inverted.to(torch.uint8).neg_()


def autocontrast(x: Tensor) -> Tensor:
    """Stretch each channel so that its darkest pixel is 0 and its brightest 255."""
    # Pillow computes in doubles and truncates: a float would be one less where the true value is an integer.
    exact = torch.float32 if x.device.type == "mps" else torch.float64
    planes = x.flatten(0, 1).flatten(1)
    low, high = (end.to(exact) for end in planes.aminmax(dim=1, keepdim=True))
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)  # `255 / x` would be 255 times 1 / x
    value = torch.arange(256, device=x.device)
    table = torch.where(high > low, (value * scale - low * scale).clamp_(0, 255), value).to(torch.uint8)
    return table.gather(1, planes.long()).view(x.shape)


def equalize(x: Tensor) -> Tensor:
    """Make all values about equally frequent in each channel."""
    planes = x.flatten(0, 1).flatten(1)
    index = planes.long()
    count = torch.zeros(len(planes), 256, dtype=torch.int32, device=x.device)
    count.scatter_add_(1, index, torch.ones_like(index, dtype=torch.int32))
    value = torch.arange(256, dtype=torch.int32, device=x.device)
    # Pillow leaves the pixels of the highest value out of the sum.
    last = count.gather(1, planes.amax(1, keepdim=True).long())
    step = torch.div(planes.shape[1] - last, 255, rounding_mode="floor")
    below = count.cumsum(1, dtype=torch.int32) - count + step // 2
    table = torch.div(below, step.clamp(min=1), rounding_mode="floor").clamp_(max=255)
    return torch.where(step > 0, table, value).to(torch.uint8).gather(1, index).view(x.shape)
