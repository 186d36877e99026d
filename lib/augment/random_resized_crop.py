"""Random resized crop (Szegedy et al. 2014, arXiv:1409.4842, section 6): a part of the image at full size.

As in the paper, the crop has 8 % to 100 % of the area and a ratio of sides between 3/4 and 4/3. Those are
values for ImageNet: 8 % of a 32x32 image are 9x9 pixels, so a larger `scale_min` may suit small images.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.contracts import Count, Fraction
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation

# A crop that does not fit is drawn again. A loop would have to look at the data, so all are drawn at once and
# the first that fits is used. If none does, for square images once in 10^9, the crop is as torchvision's: the
# largest of an allowed ratio, from the centre.
ATTEMPTS = 10

# A CPU processes images of 224 pixels in parts. Larger tensors than these 16 MiB are newly allocated at every
# use, and clearing that memory makes it take 1.8 times as long.
PART = 2**22  # numbers


@augmentations.register(
    "random_resized_crop",
    stage=Stage.GEOMETRY,
    cuts="size",
    aliases=("resized_crop",),
    paper="Szegedy et al. 2014, arXiv:1409.4842",
)
@dataclass(frozen=True)
class RandomResizedCrop(Augmentation):
    scale_min: Fraction = 0.08  # smallest fraction of the image's area
    scale_max: Fraction = 1.0  # largest fraction of the image's area
    ratio_min: Fraction = 0.75  # smallest width over height; the largest is its inverse
    size: Count | None = None  # side of the result in pixels; none: that of the image

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        x = batch.x
        H, W = x.shape[-2:]
        boxes = self.boxes(len(batch), H, W, rng).to(x.device, torch.float32, non_blocking=True)
        images = max(1, PART // x[0].numel()) if x.device.type == "cpu" else len(x)
        parts = [self._cut(*part) for part in zip(x.split(images), boxes.split(images, 1), strict=True)]
        return batch.replace(x=torch.cat(parts) if len(parts) > 1 else parts[0])

    def _cut(self, x: Tensor, boxes: Tensor) -> Tensor:
        """The crops of images (n, C, H, W), resized to `size` or to the size of the image."""
        H, W = x.shape[-2:]
        top, left, height, width = boxes
        rows, columns = (self.size, self.size) if self.size else (H, W)
        pixels = torch.einsum("nhr,ncrw->nchw", _weights(top, height, H, rows), x.float())
        pixels = torch.einsum("nvw,nchw->nchv", _weights(left, width, W, columns), pixels)
        return pixels.add_(0.5).clamp_(0, 255).to(torch.uint8)

    def boxes(self, count: int, H: int, W: int, rng: Rng) -> Tensor:
        """(4, count) integers: the top row, left column, height and width of each image's crop."""
        u = rng.host_uniform(4, count, ATTEMPTS)
        area = H * W * (self.scale_min + (self.scale_max - self.scale_min) * u[0])
        ratio = torch.exp(math.log(self.ratio_min) * (2 * u[1] - 1))
        height, width = ((area * r).sqrt().round().clamp(min=1) for r in (1 / ratio, ratio))
        fits = (height <= H) & (width <= W)
        first = fits.to(torch.uint8).argmax(1, keepdim=True)  # (count, 1); 0 where none fits
        missed = ~fits.any(1)
        largest = min(H, round(W / self.ratio_min)), min(W, round(H / self.ratio_min))
        height, width = (
            torch.where(missed, most, sides.gather(1, first)[:, 0])
            for sides, most in zip((height, width), largest, strict=True)
        )
        top, left = (
            torch.where(missed, (side - sides) // 2, (u.gather(1, first)[:, 0] * (side - sides + 1)).floor())
            for u, side, sides in ((u[2], H, height), (u[3], W, width))
        )
        return torch.stack((top, left, height, width))


def _weights(first: Tensor, length: Tensor, size: int, wanted: int) -> Tensor:
    """(n, wanted, size) weights that resize `length` pixels from `first` on, both (n,), to `wanted` ones."""
    pixel, result = (torch.arange(count, device=first.device) for count in (size, wanted))
    place = (result + 0.5) * (length / wanted)[:, None] - 0.5
    if wanted >= size:  # interpolate between two pixels; the outermost places take one
        place = torch.minimum(place.clamp_(min=0), length[:, None] - 1) + first[:, None]
        return (1 - (place[:, :, None] - pixel).abs_()).clamp_(min=0)
    # Downsampling with antialiasing: a mean over all pixels that a new one covers.
    reach = (length / wanted).clamp(min=1)[:, None, None]
    distance = (place + first[:, None])[:, :, None] - pixel
    inside = (pixel >= first[:, None]) & (pixel < (first + length)[:, None])
    weights = (1 - distance.abs_() / reach).clamp_(min=0) * inside[:, None, :]
    return weights / weights.sum(2, keepdim=True)
