"""Dropout (Srivastava et al. 2014, JMLR 15) of the features before the classifier."""

from typing import Annotated

from annotated_types import Interval
from torch import nn

from ..core.facts import Part, SurgeryOrder
from ..core.registry import surgeries
from ..graph.branches import PASSED
from ..graph.trace import Trace, trace
from .graft import insert_before


@surgeries.register(
    "dropout", order=SurgeryOrder.HEAD, needs=Part.HEAD, paper="Srivastava et al. 2014, JMLR 15"
)
def dropout(
    model: nn.Module,
    shape: tuple[int, int, int],
    rate: Annotated[float, Interval(gt=0, lt=1)] = 0.5,  # drop probability; 0.5 in the paper
) -> nn.Module:
    """Dropout before the classifier."""
    heads = classifiers(trace(model, shape))
    if not heads:
        raise ValueError("the model has no Linear module that computes the logits")
    for head in heads:
        insert_before(head, "dropout", nn.Dropout(rate))
    return model


def classifiers(graph: Trace) -> list[nn.Linear]:
    """The linear layers that compute the logits, or summands of them, up to a factor."""
    waiting, found = [graph.result], []
    while waiting:
        node = waiting.pop()
        call = graph.once(node)
        modules = [graph.module(call) for call in graph.ending.get(node, [])]
        heads = [module for module in modules if isinstance(module, nn.Linear)]
        if heads:
            found += [head for head in heads if call and head not in found]
        elif graph.operations[node] in PASSED | {"add"}:
            waiting += [parent for parent in graph.parents[node] if graph.sees_image(parent)]
    return found
