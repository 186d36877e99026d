"""The moving average of the weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017, arXiv:1703.01780)."""

from torch import nn

from ..core.contracts import Decay
from ..core.registry import averages
from .average import WeightAverage


@averages.register("ema", paper="Polyak & Juditsky 1992; Tarvainen & Valpola 2017, arXiv:1703.01780")
class EMA(WeightAverage):
    """The exponential moving average of weights and BatchNorm statistics."""

    def __init__(
        self,
        model: nn.Module,
        decay: Decay = 0.999,  # weight of the average in each update
        warmup: bool = True,  # decay at most (1 + t) / (10 + t) in step t, to forget the start
    ):
        super().__init__(model)
        self.decay, self.warmup = decay, warmup

    def weight(self, step: int) -> float:
        # Without the warm-up the initial weights dominate the average for the first 1 / (1 - decay) steps.
        return 1 - (min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay)
