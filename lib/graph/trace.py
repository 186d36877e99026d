"""What a network does with an image: which operation reads what, and which modules hold which of them.

The image is sent through a copy on torch's meta device, where nothing is computed, so the cost is that of the
Python alone. Nothing is asked of a network but that it is made of modules: the graph is that of the tensors.
"""

import copy
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BATCH = 3  # images sent through: a number that tells the batch from 1, and from a pair


@dataclass(frozen=True)
class Call:
    """One call of a module."""

    name: str  # of the module, as in `named_modules`
    before: int  # the node of the first argument
    after: int  # the node of the result
    shape: tuple[int, ...]  # of the result, the batch included


@dataclass
class Trace:
    """A graph of nodes, numbered in order: each is a tensor as one operation has left it."""

    modules: dict[str, nn.Module]  # of the network itself, not of the copy
    parents: list[tuple[int, ...]] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)  # aten's names, without the _ of those in place
    firsts: list[int] = field(default_factory=list)  # the first of the nodes that come of one operation
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)  # in the order in which they end: inner ones first
    image: int = 0
    result: int = 0

    @cached_property
    def ancestors(self) -> list[int]:
        """For each node a set of bits: the nodes that it follows from, itself included."""
        found = []
        for node, parents in enumerate(self.parents):
            bits = 1 << node
            for parent in parents:
                bits |= found[parent]
            found.append(bits)
        return found

    @cached_property
    def readers(self) -> list[list[int]]:
        """For each node the operations that read it: the first node of what each gives."""
        found: list[list[int]] = [[] for _ in self.parents]
        for node, parents in enumerate(self.parents):
            for parent in set(parents) if self.firsts[node] == node else ():
                found[parent].append(node)
        return found

    @cached_property
    def times(self) -> Counter:
        """How often each module is called."""
        return Counter(call.name for call in self.calls)

    @cached_property
    def ending(self) -> dict[int, list[Call]]:
        """By node: the calls of which it is the result, inner ones first."""
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            found.setdefault(call.after, []).append(call)
        return found

    def sees_image(self, node: int) -> bool:
        """Whether the node depends on the image, rather than on parameters alone."""
        return bool(self.ancestors[node] >> self.image & 1)

    def module(self, call: Call) -> nn.Module:
        return self.modules[call.name]

    def called(self, *types: type) -> list[tuple[Call, nn.Module]]:
        """The calls of modules of these types, in order, with their modules."""
        return [(call, m) for call in self.calls if isinstance(m := self.module(call), types)]

    def once(self, node: int) -> Call | None:
        """The outermost module of which the node is the result, and which is called nowhere else."""
        calls = [call for call in self.ending.get(node, []) if self.times[call.name] == 1]
        return calls[-1] if calls else None


class _Recorder(TorchDispatchMode):
    """Numbers each tensor; one that is changed in place gets a new number."""

    def __init__(self, trace: Trace):
        super().__init__()
        self.trace = trace
        self.nodes: dict[int, int] = {}
        self.alive: list[Tensor] = []  # or a new tensor might get the id of a dead one

    def node_of(self, tensor: Tensor) -> int:
        if id(tensor) not in self.nodes:
            self.add(tensor, "leaf", ())
        return self.nodes[id(tensor)]

    def add(self, tensor: Tensor, operation: str, parents: tuple[int, ...], later: int = 0) -> None:
        self.alive.append(tensor)
        self.trace.firsts.append(len(self.trace.parents) - later)
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
        for i, tensor in enumerate(tensors):  # a norm gives its statistics too
            self.add(tensor, name, parents, later=i)
        return results


@torch.no_grad()
def trace(model: nn.Module, shape: tuple[int, int, int]) -> Trace:
    """The graph of `model` in evaluation for images of `shape` (C, H, W); the model stays as it is.

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
            raise ValueError(
                f"image size must be one that the model can take, got {shape}: {error}"
            ) from error
    return found


def _watch(name: str, module: nn.Module, recorder: _Recorder) -> None:
    """Record the calls of a module, behind the hooks that it has."""
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
