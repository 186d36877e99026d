"""What training costs in floating-point operations, counted from the shapes of what is sent through.

Counted are convolutions and matrix products, where a multiplication with its addition makes two operations,
as torch's FlopCounterMode has it; norms and activations are a few per cent beside them. What is counted goes
through a copy on torch's meta device, where nothing is computed.
"""

import copy
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

IMAGES = 2  # that are counted at once: in training BatchNorm refuses a single one where its map is 1x1


def count_macs(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of a forward pass for one image (C, H, W), in evaluation."""
    return _operations(model, shape, training=False) // 2


def count_training(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Operations of a forward and a backward pass for one image (C, H, W), in training."""
    return _operations(model, shape, training=True)


def _operations(model: nn.Module, shape: tuple[int, int, int], training: bool) -> int:
    """For one image; where a network has something that the meta device cannot do, on its own device."""
    try:
        return _count(copy.deepcopy(model).to("meta"), shape, training)
    except (RuntimeError, NotImplementedError):
        return _count(copy.deepcopy(model), shape, training)


def _count(twin: nn.Module, shape: tuple[int, int, int], training: bool) -> int:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused attention of eval mode would count as nothing
    try:
        parameters = list(twin.parameters())
        images = torch.zeros(IMAGES, *shape, device=parameters[0].device)
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
            out = twin.train(training)(images)
            if training:
                wanted = [p for p in parameters if p.requires_grad]
                torch.autograd.grad(out.sum(), wanted, allow_unused=True)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // IMAGES


class Cost:
    """Counts what a run sends through its networks, without waiting for the device."""

    def __init__(self, model: nn.Module, teachers: Sequence[nn.Module] = ()):
        self._model, self._teachers = model, teachers
        self._taught: Counter[torch.Size] = Counter()  # images that the teachers have seen, by shape
        self._trained: Counter[torch.Size] = Counter()  # images of forward and backward passes
        self._looked: Counter[torch.Size] = Counter()  # images of forward passes alone
        self._known: dict[tuple, int] = {}

    def count_teacher(self, x: Tensor) -> None:
        """The teachers look at a finished batch, once a step."""
        self._taught[x.shape[1:]] += len(x)

    def count_backward(self, x: Tensor) -> None:
        """A forward and a backward pass."""
        self._trained[x.shape[1:]] += len(x)

    def count_forward(self, x: Tensor) -> None:
        """A forward pass that no backward pass follows."""
        self._looked[x.shape[1:]] += len(x)

    def read(self) -> int:
        """The operations since the last reading."""
        total = 0
        for shape, images in self._trained.items():
            total += images * self._once(count_training, self._model, shape)
        for shape, images in self._looked.items():
            total += images * 2 * self._once(count_macs, self._model, shape)
        for shape, images in self._taught.items():
            total += images * sum(2 * self._once(count_macs, teacher, shape) for teacher in self._teachers)
        self._taught.clear()
        self._trained.clear()
        self._looked.clear()
        return total

    def _once(self, count, network: nn.Module, shape: torch.Size) -> int:
        # What is frozen in the course of a run costs less from then on: its backward pass ends there.
        key = (count, id(network), shape, sum(p.requires_grad for p in network.parameters()))
        if key not in self._known:
            self._known[key] = count(network, tuple(shape))
        return self._known[key]
