"""FMix (Harris et al. 2020, arXiv:2002.12047): masks that are blobs of low-frequency noise."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch
from ..core.contracts import NonNegative, Positive
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .mixing import draws, paste
from .pipeline import Mix


@augmentations.register("fmix", stage=Stage.MIX, paper="Harris et al. 2020, arXiv:2002.12047")
@dataclass(frozen=True)
class FMix(Mix):
    alpha: Positive = 1.0  # Beta(alpha, alpha) draws the area of the first image; 1.0 in the paper
    decay: NonNegative = 3.0  # power by which the noise falls with frequency; larger is smoother (delta)

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        H, W = batch.x.shape[-2:]
        draw = draws(self.per_sample, batch, rng)
        pasted = (draw.beta(self.alpha) * (H * W)).round()
        grey = _low_frequency(draw.normal(2, H, W // 2 + 1), W, self.decay)
        # The threshold with that number of pixels below it; above the last if all are pasted.
        sorted_grey = F.pad(grey.flatten(1).sort(1).values, (0, 1), value=math.inf)
        threshold = sorted_grey.gather(1, pasted[:, :, 0].long())[:, :, None]
        return paste(batch, batch.shuffled(rng), grey < threshold)


def _low_frequency(noise: Tensor, width: int, decay: float) -> Tensor:
    """Smooth real maps (N, H, W) from normal noise (N, 2, H, W/2 + 1), the parts of a complex spectrum."""
    height = noise.shape[2]
    down = torch.fft.fftfreq(height, device=noise.device)[:, None]
    frequency = torch.hypot(down, torch.fft.rfftfreq(width, device=noise.device))
    # The constant part has frequency 0, and counts as the lowest wave that the image holds.
    strength = frequency.clamp(min=1 / max(height, width)) ** -decay
    return torch.fft.irfft2(torch.complex(noise[:, 0], noise[:, 1]) * strength, s=(height, width))
