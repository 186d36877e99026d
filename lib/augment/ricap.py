"""RICAP (Takahashi et al. 2018, arXiv:1811.09030, section 3): patch four random crops together."""

from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .mixing import below, box, draws, fetch, share, source
from .pipeline import Mix


@augmentations.register("ricap", stage=Stage.MIX, paper="Takahashi et al. 2018, arXiv:1811.09030")
@dataclass(frozen=True)
class Ricap(Mix):
    beta: float = 0.3  # Beta(beta, beta) draws the point where the four patches meet; 0.3 in the paper

    def __post_init__(self):
        super().__post_init__()
        require(self.beta > 0, "beta", "above 0", self.beta)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        H, W = batch.x.shape[-2:]
        draw = draws(self.per_sample, batch, rng)
        row, column = ((size * draw.beta(self.beta)).round() for size in (H, W))
        y, zero = 0.0, torch.zeros_like(row)
        place = torch.zeros(len(batch), H, W, dtype=torch.int64, device=batch.x.device)
        for corner, (top, height, left, width) in enumerate(
            (
                (zero, row, zero, column),
                (zero, row, column, W - column),
                (row, H - row, zero, column),
                (row, H - row, column, W - column),
            )
        ):
            other = batch.partners(rng.fold(corner))
            down = top - below(H - height + 1, draw.uniform())
            across = left - below(W - width + 1, draw.uniform())
            mask = box(top, left, height, width, like=batch.x)
            place = torch.where(mask, source(batch.x, other, down, across), place)
            y = y + batch.y[other] * share(mask, like=batch.y)
        return batch.replace(x=fetch(batch.x, place), y=y)
