"""What an average of the weights is: it watches them after each step, and gives a model of its own."""

import copy

import torch
from torch import nn


class WeightAverage:
    """A copy of a model that follows its weights and statistics. A subclass says in `update` how far.

    Args:
        model: the one that is watched.
        steps_per_epoch: of the run.
        total: steps in the whole budget.
    """

    # Whether BatchNorm's statistics, which were those of other weights, are measured anew before `model` is
    # used: a pass over the training images, hence done once, in the end.
    needs_statistics = False

    def __init__(self, model: nn.Module, steps_per_epoch: int, total: int):
        self.steps_per_epoch, self.total = steps_per_epoch, total
        self.model = copy.deepcopy(model).requires_grad_(False)

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step number `step` (from 0)."""
        raise NotImplementedError

    @torch.no_grad()
    def move(self, model: nn.Module, share: float) -> None:
        """Go this share of the way to the weights and statistics of `model`; 1 is a copy of them."""
        mine, live = (list(m.state_dict().values()) for m in (self.model, model))
        real = [i for i, tensor in enumerate(mine) if tensor.is_floating_point()]
        torch._foreach_lerp_([mine[i] for i in real], [live[i] for i in real], share)
        for i in set(range(len(mine))) - set(real):  # counters
            mine[i].copy_(live[i])

    def state_dict(self) -> dict:
        return self.model.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state)
