"""Parameter groups: which parameters share their settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # settings are read without torch
    from torch import nn


@dataclass(frozen=True)
class ParamGroups:
    decay_norm_and_bias: bool = True  # weight decay on norm layers and biases too, as is usual

    def __call__(self, model: nn.Module) -> list[dict]:
        """The trainable parameters of `model` as groups for a torch optimizer."""
        trainable = [p for p in model.parameters() if p.requires_grad]
        if self.decay_norm_and_bias:
            return [{"params": trainable}]
        # Biases and the scales of norm layers are the parameters of one dimension.
        return [
            {"params": [p for p in trainable if p.ndim > 1]},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]
