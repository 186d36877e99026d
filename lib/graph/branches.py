"""Find the residual branches of any network, regardless of names: branches that are added to their input.

A sum has a branch if one summand depends on the other (x + f(x), or f of a pre-activation of x), or if both
depend on one tensor and one has more layers (f(x) + a projection of x).
"""

from dataclasses import dataclass

from torch import nn

from .trace import BATCH, Call, Trace, trace

# operations allowed between the last module of a branch and the sum: they map zeros to zeros
PASSED = {"mul", "div", "view", "_unsafe_view", "permute", "transpose", "t", "clone", "_to_copy", "unsqueeze",
          "squeeze", "alias", "detach"}  # fmt: skip
LAYERS = {"convolution", "mm", "addmm", "bmm", "baddbmm"}


@dataclass(frozen=True)
class Branch:
    """A residual branch; `end` is the outermost module that computes it and is called only there."""

    end: nn.Module
    shape: tuple[int, ...]  # of the output for one image: (C, H, W), or (N, D) of tokens
    is_map: bool  # its last layer is a convolution, and its output (C, H, W)
    norms: tuple[nn.Module, ...]  # BatchNorms that make the branch 0 if their scales are 0; may be empty


def residual_branches(model: nn.Module, shape: tuple[int, int, int]) -> list[Branch]:
    """The residual branches of `model` for images of `shape` (C, H, W), in the order of the forward pass."""
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
    """The summand that is a branch and has no other reader; None if this is not a residual sum."""
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
        if deep_one == deep_other:  # two equal branches, as in shake-shake
            return None
        branch = one if deep_one > deep_other else other
    return branch if len(graph.readers[branch]) == 1 else None


def _ends_in_map(graph: Trace, node: int) -> bool:
    ancestors = graph.ancestors[node]
    names = enumerate(graph.operations[: node + 1])
    layers = [i for i, name in names if name in LAYERS and ancestors >> i & 1]
    return bool(layers) and graph.operations[layers[-1]] == "convolution" and len(graph.shapes[node]) == 4


def _layers(graph: Trace, nodes: int) -> int:
    return sum(name in LAYERS and bool(nodes >> i & 1) for i, name in enumerate(graph.operations))


def _end(graph: Trace, node: int) -> Call | None:
    """The call that computes the branch, before operations that map zeros to zeros."""
    while (call := graph.once(node)) is None and graph.operations[node] in PASSED:
        sources = [p for p in graph.parents[node] if graph.sees_image(p)]
        if len(sources) != 1 or len(graph.readers[sources[0]]) != 1:
            return None
        (node,) = sources
    return call


def _silencers(graph: Trace, node: int) -> set[str] | None:
    """The BatchNorms that make the node 0 if their scales are 0, with only linear operations after them.

    With a ReLU after them the gradient would be zero too, and the branch could never learn.
    """
    for call in graph.ending.get(node, ()):
        if isinstance(graph.module(call), nn.BatchNorm2d):
            return {call.name}
    is_sum = graph.operations[node] in ("add", "lerp")
    if not is_sum and graph.operations[node] not in PASSED:
        return None
    parts = [_silencers(graph, parent) for parent in graph.parents[node] if graph.sees_image(parent)]
    known = [part for part in parts if part]
    if is_sum:  # a sum is 0 if all its summands are, a product if one factor is
        return set().union(*known) if parts and len(known) == len(parts) else None
    return known[0] if known else None
