"""The residual branches of any network, whatever its author called them: what is added to its own input.

A sum has a branch where one summand follows from the other (x + f(x), f of a pre-activation of x), or where
both follow from one tensor and one has more layers behind it (f(x) beside a projection of x).
"""

from dataclasses import dataclass

from torch import nn

from .trace import BATCH, Call, Trace, trace

# What a branch may still pass between its last module and the sum: an image's zeros stay the image's zeros.
PASSED = {"mul", "div", "view", "_unsafe_view", "permute", "transpose", "t", "clone", "_to_copy", "unsqueeze",
          "squeeze", "alias", "detach"}  # fmt: skip
LAYERS = {"convolution", "mm", "addmm", "bmm", "baddbmm"}


@dataclass(frozen=True)
class Branch:
    """A residual branch: `end` is the outermost module that gives what is added, and is called only there."""

    end: nn.Module
    shape: tuple[int, ...]  # of one image's result: (C, H, W), or (N, D) of tokens
    is_map: bool  # its last layer is a convolution, so the result has (C, H, W) and is no set of tokens
    norms: tuple[nn.Module, ...]  # with the scales of these BatchNorms at 0 the branch is 0; none: no such


def residual_branches(model: nn.Module, shape: tuple[int, int, int]) -> list[Branch]:
    """The residual branches of `model` for images of `shape` (C, H, W), in the order of the forward."""
    graph = trace(model, shape)
    found = []
    for node, operation in enumerate(graph.operations):
        summand = _branch(graph, node) if operation == "add" else None
        call = None if summand is None else _end(graph, summand)
        if call is not None and call.shape[0] == BATCH:
            norms = tuple(graph.modules[name] for name in sorted(_silencers(graph, call.after) or ()))
            found.append(Branch(graph.module(call), call.shape[1:], _ends_in_map(graph, call.after), norms))
    return found


def _branch(graph: Trace, total: int) -> int | None:
    """The summand that is the branch, and is read by nobody else; None where there is no residual sum."""
    summands = graph.parents[total]
    if len(summands) != 2 or not all(map(graph.sees_image, summands)):
        return None
    one, other = summands
    if graph.shapes[one] != graph.shapes[other] or one == other:
        return None
    before_one, before_other = graph.ancestors[one], graph.ancestors[other]
    if before_one >> other & 1:
        branch = one
    elif before_other >> one & 1:
        branch = other
    else:
        deep_one = _layers(graph, before_one & ~before_other)
        deep_other = _layers(graph, before_other & ~before_one)
        if deep_one == deep_other:  # two equal branches, as of shake-shake
            return None
        branch = one if deep_one > deep_other else other
    return branch if len(graph.readers[branch]) == 1 else None


def _ends_in_map(graph: Trace, node: int) -> bool:
    behind = graph.ancestors[node]
    layers = [i for i, name in enumerate(graph.operations[: node + 1]) if name in LAYERS and behind >> i & 1]
    return bool(layers) and graph.operations[layers[-1]] == "convolution" and len(graph.shapes[node]) == 4


def _layers(graph: Trace, nodes: int) -> int:
    return sum(name in LAYERS and bool(nodes >> i & 1) for i, name in enumerate(graph.operations))


def _end(graph: Trace, node: int) -> Call | None:
    """The call that gives the branch, before what it may still pass."""
    while (call := graph.once(node)) is None and graph.operations[node] in PASSED:
        sources = [p for p in graph.parents[node] if graph.sees_image(p)]
        if len(sources) != 1 or len(graph.readers[sources[0]]) != 1:
            return None
        (node,) = sources
    return call


def _silencers(graph: Trace, node: int) -> set[str] | None:
    """The BatchNorms whose zero scales make the node 0 with nothing non-linear behind them, if there are.

    A ReLU behind them would give zero gradients too, and the branch could never begin to learn.
    """
    for call in graph.ending.get(node, ()):
        if isinstance(graph.module(call), nn.BatchNorm2d):
            return {call.name}
    is_sum = graph.operations[node] in ("add", "lerp")
    if not is_sum and graph.operations[node] not in PASSED:
        return None
    parts = [_silencers(graph, parent) for parent in graph.parents[node] if graph.sees_image(parent)]
    known = [part for part in parts if part]
    if is_sum:  # a sum is 0 where all its parts are, a product where one factor is
        return set().union(*known) if parts and len(known) == len(parts) else None
    return known[0] if known else None
