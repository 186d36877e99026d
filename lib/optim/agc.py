"""Adaptive gradient clipping (Brock et al. 2021, arXiv:2102.06171, section 4.1, equation 3)."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.errors import require
from ..core.facts import WrapperOrder
from ..core.registry import wrappers
from .param_groups import head_of
from .wrapper import GradientMap


@wrappers.register(
    "agc",
    aliases=("adaptive_gradient_clipping",),
    order=WrapperOrder.CLIP,
    paper="Brock et al. 2021, arXiv:2102.06171",
)
class AdaptiveGradientClipping(GradientMap):
    """Bound the gradient of each neuron's weights by a share of their own norm, the head's aside."""

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module,
        clip: float = 0.01,  # largest norm of a gradient in norms of its weights; smaller for large batches
        eps: float = 1e-3,  # least norm that weights count with, so that those at zero can move
    ):
        require(clip > 0, "clip", "above 0", clip)
        require(eps > 0, "eps", "above 0", eps)
        super().__init__(base)
        self.clip, self.eps = clip, eps
        head = head_of(model)
        self.spared = set(head.parameters()) if head else set()  # the paper clips all but the last layer

    @torch.no_grad()
    def change(self, params: list[Tensor]) -> None:
        params = [p for p in params if p not in self.spared]
        if not params:
            return
        gradients = [p.grad for p in params]
        bounds, norms = [_norms(p) for p in params], [_norms(g) for g in gradients]
        torch._foreach_clamp_min_(bounds, self.eps)
        torch._foreach_mul_(bounds, self.clip)
        torch._foreach_clamp_min_(norms, 1e-6)
        torch._foreach_div_(bounds, norms)
        torch._foreach_clamp_max_(bounds, 1.0)
        torch._foreach_mul_(gradients, bounds)


def _norms(x: Tensor) -> Tensor:
    """A norm for each neuron's weights; of a bias or the scales of a norm layer, one for all."""
    dims = tuple(range(1, x.ndim)) if x.ndim > 1 else None
    return torch.linalg.vector_norm(x, dim=dims, keepdim=x.ndim > 1)
