"""Frozen scales of BatchNorm (Page 2018, "How to train your ResNet", part 8: the bag of tricks).

The layers behind take up what a scale would learn; the shifts, which nothing else can give, are trained.
"""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.facts import Part, SurgeryOrder
from ..core.registry import surgeries


@surgeries.register(
    "frozen_bn", order=SurgeryOrder.SCALES, needs=Part.BATCH_NORM, freezes=True, paper="Page 2018 (DAWNBench)"
)
def frozen_bn(model: nn.Module) -> nn.Module:
    """Frozen BatchNorm scales: they stay at their initial value, and no optimizer sees them."""
    scales = [m.weight for m in model.modules() if isinstance(m, _BatchNorm) and m.affine]
    scales = [scale for scale in scales if scale.requires_grad]
    if not scales:
        raise ValueError("the model has no BatchNorm with a trained scale")
    if not all(scale.any() for scale in scales):
        raise ValueError(
            "the model starts with BatchNorm scales of 0, which would shut their branches off for ever"
        )
    for scale in scales:
        scale.requires_grad_(False)
    return model
