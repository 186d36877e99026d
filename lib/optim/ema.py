"""The moving average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017, arXiv:1703.01780)."""

from torch import nn

from ..core.errors import require
from ..core.registry import averages
from .average import WeightAverage


@averages.register(
    "ema", paper="Polyak & Juditsky 1992; Tarvainen & Valpola 2017, arXiv:1703.01780, section 2"
)
class EMA(WeightAverage):
    """The exponential moving average of weights and BatchNorm statistics."""

    def __init__(
        self,
        model: nn.Module,
        steps_per_epoch: int,
        total: int,
        decay: float = 0.999,  # how much of the average a step keeps
        warmup: bool = True,  # keep at most (1 + t) / (10 + t) in step t, so that the start is soon forgotten
    ):
        require(0 <= decay < 1, "decay", "at least 0 and below 1", decay)
        super().__init__(model, steps_per_epoch, total)
        self.decay, self.warmup = decay, warmup

    def update(self, model: nn.Module, step: int) -> None:
        # Without the warm-up the random start weighs on the average for the first 1 / (1 - decay) steps.
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay
        self.move(model, 1 - decay)
