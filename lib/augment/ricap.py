"""RICAP (Takahashi et al. 2018, arXiv:1811.09030, section 3): patch four random crops together."""

from dataclasses import dataclass

from lib.augment.pipeline import Mix
from lib.augment.stage import Stage
from lib.batch import Batch
from lib.errors import require
from lib.registry import augmentations
from lib.rng import Rng


@augmentations.register("ricap", stage=Stage.MIX, paper="Takahashi et al. 2018, arXiv:1811.09030")
@dataclass(frozen=True)
class Ricap(Mix):
    beta: float = 0.3  # Beta(beta, beta) draws the point where the four patches meet; 0.3 in the paper

    def __post_init__(self):
        super().__post_init__()
        require(self.beta > 0, "beta", "above 0", self.beta)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        H, W = batch.x.shape[-2:]
        row = round(H * rng.host.betavariate(self.beta, self.beta))
        column = round(W * rng.host.betavariate(self.beta, self.beta))
        x, y = batch.x.clone(), 0.0
        for corner, (top, bottom, left, right) in enumerate(
            ((0, row, 0, column), (0, row, column, W), (row, H, 0, column), (row, H, column, W))
        ):
            height, width = bottom - top, right - left
            other = batch.shuffled(rng.fold(corner))
            down, across = rng.host.randint(0, H - height), rng.host.randint(0, W - width)
            x[:, :, top:bottom, left:right] = other.x[:, :, down : down + height, across : across + width]
            y = y + other.y * (height * width / (H * W))
        return batch.replace(x=x, y=y)
