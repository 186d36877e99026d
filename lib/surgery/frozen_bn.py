"""Frozen scales of BatchNorm (Page 2018, "How to train your ResNet", part 8: the bag of tricks).

The following layers can learn what a scale would; the shifts, which no other layer provides, are trained.
"""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.facts import Part, SurgeryOrder
from ..core.registry import surgeries


@surgeries.register(
    "frozen_bn", order=SurgeryOrder.SCALES, needs=Part.BATCH_NORM, freezes=True, paper="Page 2018 (DAWNBench)"
)
def frozen_bn(model: nn.Module) -> nn.Module:
    """Frozen BatchNorm scales: they keep their initial values and are not passed to the optimizer."""
    scales = [m.weight for m in model.modules() if isinstance(m, _BatchNorm) and m.affine]
    scales = [scale for scale in scales if scale.requires_grad]
    if not scales:
        raise ValueError("the model has no BatchNorm with a trained scale")
    if not all(scale.any() for scale in scales):
        raise ValueError(
            "the model initialises BatchNorm scales with 0; frozen, they would disable their branches"
        )
    for scale in scales:
        scale.requires_grad_(False)
    return model
