"""The base of averages: they follow a model's weights during training, and hold a model with the average."""

import copy

import torch
from torch import nn


class WeightAverage:
    """A copy of a model, moved towards its weights and statistics. A subclass gives the weights of the mean.

    Its `model` has the averaged weights.
    """

    # Whether the statistics of BatchNorm must be measured again before `model` is used, because they were
    # measured with other weights. That is a pass over the training images, hence done once, at the end.
    needs_statistics = False

    def __init__(self, model: nn.Module):
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.step = 0  # number of the next update

    def weight(self, step: int) -> float:
        """The weight of the values after step number `step` (from 0); 0 leaves the average as it is."""
        raise NotImplementedError

    def update(self, model: nn.Module, step: int | None = None) -> None:
        """Add the weights of `model` after a training step.

        Args:
            step: its number, from 0; without it, updates are counted. The count is not in the state, so a
                loop that resumes must give the number.
        """
        step = self.step if step is None else step
        self.step = step + 1
        if weight := self.weight(step):
            self._lerp(model, weight)

    @torch.no_grad()
    def _lerp(self, model: nn.Module, weight: float) -> None:
        mine, live = (list(m.state_dict().values()) for m in (self.model, model))
        real = [i for i, tensor in enumerate(mine) if tensor.is_floating_point()]
        torch._foreach_lerp_([mine[i] for i in real], [live[i] for i in real], weight)
        for i in set(range(len(mine))) - set(real):  # counters
            mine[i].copy_(live[i])

    def state_dict(self) -> dict:
        return self.model.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state)
