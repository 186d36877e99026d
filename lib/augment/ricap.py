"""RICAP (Takahashi et al. 2018, arXiv:1811.09030, section 3): patch four random crops together."""

from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.contracts import Positive
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .mixing import area, box, draws, fetch, source
from .pipeline import Mix


@augmentations.register("ricap", stage=Stage.MIX, paper="Takahashi et al. 2018, arXiv:1811.09030")
@dataclass(frozen=True)
class Ricap(Mix):
    beta: Positive = 0.3  # Beta(beta, beta) draws the point where the four patches meet; 0.3 in the paper

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        H, W = batch.x.shape[-2:]
        draw = draws(self.per_sample, batch, rng)
        cy, cx = ((size * draw.beta(self.beta)).round() for size in (H, W))
        zero, right, bottom = torch.zeros_like(cx), torch.full_like(cx, W), torch.full_like(cy, H)
        patches = (zero, zero, cx, cy), (cx, zero, right, cy), (zero, cy, cx, bottom), (cx, cy, right, bottom)
        index = torch.zeros(len(batch), H, W, dtype=torch.int64, device=batch.x.device)
        y = 0.0
        for number, (x1, y1, x2, y2) in enumerate(patches):
            other = batch.partners(rng.fold(number))
            # The crop of the other image has the size of the patch and its own place.
            dy = y1 - draw.integers(H - (y2 - y1) + 1)
            dx = x1 - draw.integers(W - (x2 - x1) + 1)
            mask = box(x1, y1, x2, y2, like=batch.x)
            index = torch.where(mask, source(batch.x, other, dx, dy), index)
            y = y + batch.y[other] * area(mask, like=batch.y)
        return batch.replace(x=fetch(batch.x, index), y=y)
