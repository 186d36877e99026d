"""Count the floating-point operations of training from the shapes of the batches.

Convolutions and matrix products count, with two operations per multiply-accumulate, as in torch's
FlopCounterMode; norms and activations would add a few per cent. The passes run on torch's meta device, where
nothing is computed.
"""

import copy
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

IMAGES = 2  # per counted batch: in training, BatchNorm refuses a single image with a 1x1 map


def count_macs(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of a forward pass in evaluation for one image (C, H, W)."""
    return _operations(model, shape, training=False) // 2


def count_training(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Operations of a forward and a backward pass in training for one image (C, H, W)."""
    return _operations(model, shape, training=True)


def _operations(model: nn.Module, shape: tuple[int, int, int], training: bool) -> int:
    """Operations for one image; on the network's own device if the meta device lacks an operator."""
    try:
        return _count(copy.deepcopy(model).to("meta"), shape, training)
    except (RuntimeError, NotImplementedError):
        return _count(copy.deepcopy(model), shape, training)


def _count(twin: nn.Module, shape: tuple[int, int, int], training: bool) -> int:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused attention of eval mode would not be counted
    try:
        parameters = list(twin.parameters())
        images = torch.zeros(IMAGES, *shape, device=parameters[0].device)
        if not training:
            # The counter looks for the gradient of a parameter that a module is called with (a class token).
            twin.requires_grad_(False)
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
            out = twin.train(training)(images)
            if training:
                out.sum().backward()  # torch.autograd.grad fails at such parameters
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() // IMAGES


class Cost:
    """Count the operations of a run's networks, without synchronising with the device."""

    def __init__(self, model: nn.Module, teachers: Sequence[nn.Module] = ()):
        self._model, self._teachers = model, teachers
        self._images: Counter[tuple[str, torch.Size]] = Counter()  # since the last reading, by use and shape
        self._counts: dict[tuple, int] = {}

    def count_teacher(self, x: Tensor) -> None:
        """Count a forward pass of the teachers for batch x."""
        self._images["teacher", x.shape[1:]] += len(x)

    def count_backward(self, x: Tensor) -> None:
        """Count a forward and a backward pass for batch x."""
        self._images["backward", x.shape[1:]] += len(x)

    def count_forward(self, x: Tensor) -> None:
        """Count a forward pass without a backward pass for batch x."""
        self._images["forward", x.shape[1:]] += len(x)

    def read(self) -> int:
        """The operations since the last call."""
        total = sum(count * self._of_one(*key) for key, count in self._images.items())
        self._images.clear()
        return total

    def _of_one(self, use: str, shape: torch.Size) -> int:
        """The operations for one image."""
        if use == "backward":
            return self._count(count_training, self._model, shape)
        networks = self._teachers if use == "teacher" else [self._model]
        return sum(2 * self._count(count_macs, network, shape) for network in networks)

    def _count(self, count, network: nn.Module, shape: torch.Size) -> int:
        # Parameters that are frozen during a run reduce the cost of the backward pass from then on.
        key = (count, id(network), shape, sum(p.requires_grad for p in network.parameters()))
        if key not in self._counts:
            self._counts[key] = count(network, tuple(shape))
        return self._counts[key]
