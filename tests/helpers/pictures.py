"""Pictures for the image operations, and the operations of Pillow to compare with."""

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

# By name: Pillow's operation, and all magnitudes to try.
LOOK_UPS = {
    "invert": (lambda image, _: ImageOps.invert(image), torch.zeros(1)),
    "equalize": (lambda image, _: ImageOps.equalize(image), torch.zeros(1)),
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), torch.zeros(1)),
    "posterize": (lambda image, bits: ImageOps.posterize(image, int(bits)), torch.arange(1, 9)),
    "solarize": (ImageOps.solarize, torch.arange(0, 257, 0.5)),
}


def pictures(channels: int, height: int, width: int) -> Tensor:
    """Seven uint8 images: noise, a gradient, few colours, one colour, low contrast, a disc, two values."""
    noise = torch.randint(0, 256, (7, channels, height, width), generator=torch.Generator().manual_seed(0))
    down, across = torch.arange(height)[:, None], torch.arange(width)
    noise[1] = (down * 5 + across * 3) % 256
    noise[2] = noise[2] // 86 * 80
    noise[3] = noise[3, :, :1, :1]
    noise[4] = noise[4] // 4 + 60
    noise[5] = ((down - height / 2) ** 2 + (across - width / 2) ** 2 < 40) * 200
    noise[6] = 17 + (noise[6] > 250)
    return noise.to(torch.uint8)


def to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy())


def from_pil(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)
