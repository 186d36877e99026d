"""Adaptive gradient clipping (Brock et al. 2021, arXiv:2102.06171)."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.contracts import Positive
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
    """Bound the gradient of each neuron's weights in proportion to the norm of these weights.

    Args:
        base: the optimizer that applies the gradient.
        model: its last layer is not clipped, as in the paper; without a model every layer is.
    """

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module | None = None,
        clip: Positive = 0.01,  # largest gradient norm per weight norm; less for large batches
        eps: Positive = 1e-3,  # lower bound of the weight norm, so that weights at zero can move
    ):
        super().__init__(base)
        self.clip, self.eps = clip, eps
        head = head_of(model) if model else None
        self.unclipped = set(head.parameters()) if head else set()

    @torch.no_grad()
    def change(self, params: list[Tensor]) -> None:
        params = [p for p in params if p not in self.unclipped]
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
    """The norm of each neuron's weights; a bias or the scales of a norm layer have one norm together."""
    dims = tuple(range(1, x.ndim)) if x.ndim > 1 else None
    return torch.linalg.vector_norm(x, dim=dims, keepdim=x.ndim > 1)
