"""Averages of the weights: they watch the weights after each step and give a model of their own."""

import copy

import torch
from torch import nn

from lib.errors import require
from lib.registry import averages


@averages.register(
    "ema", paper="Polyak & Juditsky 1992; Tarvainen & Valpola 2017, arXiv:1703.01780, section 2"
)
class EMA:
    """The exponential moving average of weights and BatchNorm statistics."""

    def __init__(
        self,
        model: nn.Module,
        decay: float = 0.999,  # how much of the average a step keeps
    ):
        require(0 <= decay < 1, "decay", "at least 0 and below 1", decay)
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights after step number `step` (from 0)."""
        # Early on it forgets faster, or its random start would weigh on it for the first 1 / (1 - decay)
        # steps.
        decay = min(self.decay, (1 + step) / (10 + step))
        mine, live = (list(m.state_dict().values()) for m in (self.model, model))
        real = [i for i, tensor in enumerate(mine) if tensor.is_floating_point()]
        torch._foreach_lerp_([mine[i] for i in real], [live[i] for i in real], 1 - decay)
        for i in set(range(len(mine))) - set(real):  # counters
            mine[i].copy_(live[i])

    def state_dict(self) -> dict:
        return self.model.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state)
