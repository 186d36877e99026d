"""Zero gamma (Goyal et al. 2017, arXiv:1706.02677, section 5.1): residual blocks start as identities."""

from torch import nn

from ..core.facts import InitOrder
from ..core.registry import initialisations
from ..graph.branches import residual_branches


@initialisations.register("zero_gamma", order=InitOrder.ZERO, paper="Goyal et al. 2017, arXiv:1706.02677")
def zero_gamma(model: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """Zero gamma: the BatchNorm scale at the end of each residual branch starts at 0."""
    norms = [norm for branch in residual_branches(model, shape) for norm in branch.norms if norm.affine]
    if not norms:
        raise ValueError(
            "the model has no residual branch that ends in a BatchNorm; followed by an activation "
            "or a convolution, a scale of 0 would get no gradient"
        )
    if not all(norm.weight.requires_grad for norm in norms):
        raise ValueError("the model's BatchNorm scales are frozen; at 0 they would disable its branches")
    for norm in norms:
        nn.init.zeros_(norm.weight)
    return model
