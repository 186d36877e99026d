"""Ghost BatchNorm (Hoffer et al. 2017, arXiv:1705.08741, algorithm 1): statistics of parts of the batch.

The running statistics are updated once per part, in sequence, as in the algorithm: with n parts the last
batch has the weight 1 - (1 - momentum)^n instead of momentum.
"""

import torch
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.facts import Part, SurgeryOrder
from ..core.registry import surgeries
from .graft import replace_each


class GhostBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that normalises parts of the batch separately in training."""

    def __init__(self, *args, size: int, **kwargs):
        super().__init__(*args, **kwargs)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        norm = super().forward
        # Nearly equal parts of at least `size`: a remainder of one image would have no variance on a 1x1 map.
        parts = max(1, len(x) // self.size) if self.training else 1
        return norm(x) if parts == 1 else torch.cat([norm(part) for part in x.tensor_split(parts)])


@surgeries.register(
    "ghost_batchnorm",
    order=SurgeryOrder.NORMS,
    needs=Part.BATCH_NORM,
    splits="size",
    paper="Hoffer et al. 2017, arXiv:1705.08741",
)
def ghost_batchnorm(
    model: nn.Module,
    size: Count = 32,  # images that share statistics, within a micro-batch
) -> nn.Module:
    """Ghost BatchNorm: normalise by the statistics of small parts of the batch."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        raise ValueError("the model has no BatchNorm2d")
    if foreign := {type(m).__name__ for m in norms if type(m) is not nn.BatchNorm2d}:
        raise ValueError(f"the model has custom norms, {', '.join(sorted(foreign))}")
    return replace_each(model, norms, lambda norm: _ghost(norm, size))


def _ghost(norm: nn.BatchNorm2d, size: int) -> GhostBatchNorm2d:
    """A ghost BatchNorm with the parameters and statistics of `norm`."""
    options = norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    new = GhostBatchNorm2d(norm.num_features, *options, size=size)
    new.weight, new.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(new, name, buffer)
    return new
