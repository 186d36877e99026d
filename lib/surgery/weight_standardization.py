"""Weight standardisation (Qiao et al. 2019, arXiv:1903.10520): filters with mean 0 and variance 1.

The weights are standardised in every forward pass, and gradients flow through it. The parameter is the raw
weight, with its name in the state dict.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.facts import Part, SurgeryOrder
from ..core.registry import surgeries
from ..graph.trace import Trace, trace
from .graft import replace_each

NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
# A norm after one of these does not cancel the scale of what precedes it.
STOPS = {"sigmoid", "hardsigmoid", "_softmax", "tanh", "addmm", "mm", "bmm"}


class StandardizedConv2d(nn.Conv2d):
    """A convolution that standardises each filter to mean 0 and variance 1."""

    eps = 1e-5  # added to the variance, as a filter may be constant

    @property
    def standardized(self) -> Tensor:  # (O, I, k, k)
        # LayerNorm does this in one kernel; channels last, which is their order in memory.
        filters = self.weight.permute(0, 2, 3, 1)
        return F.layer_norm(filters, filters.shape[1:], eps=self.eps).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H', W')
        return self._conv_forward(x, self.standardized, self.bias)


@surgeries.register(
    "weight_standardization",
    order=SurgeryOrder.WEIGHTS,
    needs=Part.NORMALIZED_CONVOLUTION,
    paper="Qiao et al. 2019, arXiv:1903.10520",
)
def weight_standardization(model: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """Weight standardisation: convolutions before norms use weights of mean 0 and variance 1."""
    found = [m for m in normalized(trace(model, shape)) if m.weight.requires_grad and m.weight[0].numel() > 1]
    if not found:
        raise ValueError(
            "the model has no trained convolution followed by a BatchNorm or GroupNorm, which cancels "
            "the scale of standardised weights"
        )
    return replace_each(model, found, standardized)


def standardized(module: nn.Conv2d) -> StandardizedConv2d:
    """The convolution with the same parameters, standardised."""
    new = StandardizedConv2d(
        module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,
        module.dilation, module.groups, module.bias is not None, module.padding_mode, device="meta",
    )  # fmt: skip
    new.weight, new.bias = module.weight, module.bias
    return new


def normalized(graph: Trace) -> list[nn.Conv2d]:
    """The convolutions that a norm follows, without another layer or a gate in between."""
    convolutions = {call.after: m for call, m in graph.called(nn.Conv2d) if type(m) is nn.Conv2d}
    waiting = [call.before for call, _ in graph.called(*NORMS)]
    seen, found = set(), {}
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in convolutions:
            found[id(convolutions[node])] = convolutions[node]
        elif graph.operations[node] not in STOPS and graph.operations[node] != "convolution":
            waiting += graph.parents[node]
    return list(found.values())
