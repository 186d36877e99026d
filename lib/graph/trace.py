"""Trace a network: the graph of its operations, and the modules that execute them.

An image runs through a copy on torch's meta device, where nothing is computed, so that only the Python code
costs time. The graph is that of the tensors, so any network of modules can be traced.
"""

import copy
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BATCH = 3  # images in the traced batch: distinguishes it from dimensions of 1 and 2


@dataclass(frozen=True)
class Call:
    """One call of a module."""

    name: str  # of the module, as in `named_modules`
    before: int  # node of the first argument
    after: int  # node of the result
    shape: tuple[int, ...]  # of the result, including the batch


@dataclass
class Trace:
    """A graph of nodes, numbered in order: each is a tensor after one operation."""

    modules: dict[str, nn.Module]  # of the network itself, not of the copy
    parents: list[tuple[int, ...]] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)  # names in aten, without the _ of in-place operations
    firsts: list[int] = field(default_factory=list)  # the first node of the same operation
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)  # in the order in which they return: inner calls first
    image: int = 0
    result: int = 0

    @cached_property
    def ancestors(self) -> list[int]:
        """For each node a bit set of the nodes that it depends on, including itself."""
        found = []
        for node, parents in enumerate(self.parents):
            bits = 1 << node
            for parent in parents:
                bits |= found[parent]
            found.append(bits)
        return found

    @cached_property
    def readers(self) -> list[list[int]]:
        """For each node the operations that read it, each by its first node."""
        found: list[list[int]] = [[] for _ in self.parents]
        for node, parents in enumerate(self.parents):
            for parent in set(parents) if self.firsts[node] == node else ():
                found[parent].append(node)
        return found

    @cached_property
    def times(self) -> Counter:
        """The number of calls of each module."""
        return Counter(call.name for call in self.calls)

    @cached_property
    def ending(self) -> dict[int, list[Call]]:
        """By node: the calls that return it, inner calls first."""
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.after, []).append(call)
        return found

    def sees_image(self, node: int) -> bool:
        """Whether the node depends on the image, and not only on parameters."""
        return bool(self.ancestors[node] >> self.image & 1)

    def module(self, call: Call) -> nn.Module:
        return self.modules[call.name]

    def called(self, *types: type) -> list[tuple[Call, nn.Module]]:
        """The calls of modules of these types, in order, with the modules."""
        return [(call, m) for call in self.calls if isinstance(m := self.module(call), types)]

    def once(self, node: int) -> Call | None:
        """The call of the outermost module that returns the node and is called only once."""
        calls = [call for call in self.ending.get(node, []) if self.times[call.name] == 1]
        return calls[-1] if calls else None


class _Recorder(TorchDispatchMode):
    """Number each tensor; a tensor that is changed in place gets a new number."""

    def __init__(self, trace: Trace):
        super().__init__()
        self.trace = trace
        self.nodes: dict[int, int] = {}
        self.alive: list[Tensor] = []  # otherwise a new tensor might reuse the id of a deleted one

    def node_of(self, tensor: Tensor) -> int:
        if id(tensor) not in self.nodes:
            self.add(tensor, "leaf", ())
        return self.nodes[id(tensor)]

    def add(self, tensor: Tensor, operation: str, parents: tuple[int, ...], output: int = 0) -> None:
        self.alive.append(tensor)
        self.trace.firsts.append(len(self.trace.parents) - output)
        self.nodes[id(tensor)] = len(self.trace.parents)
        self.trace.parents.append(parents)
        self.trace.operations.append(operation)
        self.trace.shapes.append(tuple(tensor.shape))

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        parents = tuple(self.node_of(t) for t in tensors)
        results = function(*args, **kwargs)
        name = function.overloadpacket.__name__.rstrip("_")
        tensors = [t for t in tree_leaves(results) if isinstance(t, Tensor)]
        for i, tensor in enumerate(tensors):  # a norm also returns its statistics
            self.add(tensor, name, parents, output=i)
        return results


@torch.no_grad()
def trace(model: nn.Module, shape: tuple[int, int, int]) -> Trace:
    """The graph of `model` in evaluation for images of `shape` (C, H, W); the model is not changed.

    Raises:
        ValueError: the model cannot take such images.
    """
    found = Trace(dict(model.named_modules()))
    recorder = _Recorder(found)
    twin = copy.deepcopy(model).to("meta").eval()
    for name, module in twin.named_modules():
        _watch(name, module, recorder)
    with recorder:
        image = torch.zeros(BATCH, *shape, device="meta")
        found.image = recorder.node_of(image)
        try:
            found.result = recorder.node_of(twin(image))
        except (RuntimeError, ValueError, AssertionError) as error:
            rule = "image size must be one that the model can take"
            raise ValueError(f"{rule}, got {shape}: {error}") from error
    return found


def _watch(name: str, module: nn.Module, recorder: _Recorder) -> None:
    """Record the calls of a module, after the hooks that it has."""
    started: list[int | None] = []

    def begin(_, args: tuple) -> None:
        tensor = next((a for a in tree_leaves(args) if isinstance(a, Tensor)), None)
        started.append(None if tensor is None else recorder.node_of(tensor))

    def end(_, args: tuple, result: object) -> None:
        before = started.pop()
        if isinstance(result, Tensor) and before is not None:
            call = Call(name, before, recorder.node_of(result), tuple(result.shape))
            recorder.trace.calls.append(call)

    module.register_forward_pre_hook(begin)
    module.register_forward_hook(end)
