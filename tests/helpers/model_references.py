"""Build and compare models; slow, obvious reference implementations of networks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.core.registry import models


def build(
    name: str, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, **options
) -> nn.Module:
    torch.manual_seed(0)
    return models[name].build(
        num_classes=num_classes, in_channels=in_channels, image_size=image_size, **options
    )


def images(count: int = 2, channels: int = 3, size: int = 32) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(count))


def close(got: Tensor, want: Tensor, tolerance: float = 1e-4) -> None:
    """Assert equality up to rounding, relative to the largest logit."""
    torch.testing.assert_close(got, want, rtol=0, atol=tolerance * want.abs().max().item())


def scramble(network: nn.Module, seed: int = 0) -> nn.Module:
    """Perturb every weight and statistic, so that a misplaced BatchNorm changes the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            noise = torch.rand(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise)
            elif tensor.is_floating_point():
                tensor.add_((noise - 0.5) * 0.2)
    return network.eval()


def copy_by_shape(source: nn.Module, target: nn.Module) -> None:
    """Copy to each tensor of `target` the first unused tensor of `source` with its shape, in order."""
    left = [t for t in source.state_dict().values() if t.is_floating_point()]
    for tensor in target.state_dict().values():
        if tensor.is_floating_point():
            place = next(i for i, t in enumerate(left) if t.shape == tensor.shape)
            tensor.copy_(left.pop(place))
    assert not left, f"{len(left)} tensors were not used"


class Weights:
    """The tensors of a network without convolution biases, consumed in order."""

    def __init__(self, network: nn.Module):
        self.left = [t for t in network.state_dict().values() if t.is_floating_point()]

    def conv(self, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.left.pop(0)
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(self, x: Tensor) -> Tensor:
        weight, bias, mean, var = (self.left.pop(0).view(-1, 1, 1) for _ in range(4))
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def classify(self, x: Tensor) -> Tensor:
        weight, bias = self.left.pop(0), self.left.pop(0)
        assert not self.left, f"{len(self.left)} tensors were not used"
        return x.mean((2, 3)) @ weight.T + bias


def grow(x: Tensor, channels: int) -> Tensor:
    return torch.cat([x, x.new_zeros(len(x), channels - x.shape[1], *x.shape[2:])], dim=1)


def first_strides(blocks: int) -> list[int]:
    """The strides of three stages."""
    return [2 if i in (blocks, 2 * blocks) else 1 for i in range(3 * blocks)]


def resnet(network: nn.Module, x: Tensor, blocks: int) -> Tensor:
    """Basic units, option A."""
    w = Weights(network)
    x = w.norm(w.conv(x)).relu()
    for stride in first_strides(blocks):
        residual = w.norm(w.conv(w.norm(w.conv(x, stride)).relu()))
        shortcut = x[:, :, ::2, ::2] if stride == 2 else x
        x = (residual + grow(shortcut, residual.shape[1])).relu()
    return w.classify(x)


def preact_resnet(
    network: nn.Module, x: Tensor, blocks: int, preact_stage: tuple[bool, ...], remove: bool, last: bool
) -> Tensor:
    """Basic units; the weights of the projection precede those of its unit."""
    w = Weights(network)
    x = w.conv(x)
    for i, stride in enumerate(first_strides(blocks)):
        shared = i % blocks == 0 and preact_stage[i // blocks]
        project = w.left.pop(0) if stride == 2 else None
        activated = w.norm(x) if remove and not shared else w.norm(x).relu()
        shortcut = activated if shared else x
        if project is not None:
            shortcut = F.conv2d(shortcut, project, stride=2)
        residual = w.conv(w.norm(w.conv(activated, stride)).relu())
        x = shortcut + (w.norm(residual) if last else residual)
    return w.classify(w.norm(x).relu())


def wide_resnet(network: nn.Module, x: Tensor, blocks: int) -> Tensor:
    w = Weights(network)
    x = w.conv(x)
    for i, stride in enumerate(first_strides(blocks)):
        activated = w.norm(x).relu()
        residual = w.conv(w.norm(w.conv(activated, stride)).relu())
        x = residual + (w.conv(activated, stride) if i % blocks == 0 else x)
    return w.classify(w.norm(x).relu())


def shake_resnet(network: nn.Module, x: Tensor, blocks: int) -> Tensor:
    """In evaluation: the mean of both branches."""
    w = Weights(network)
    x = w.norm(w.conv(x))
    for i, stride in enumerate(first_strides(blocks)):
        a = x.relu()
        left = w.norm(w.conv(w.norm(w.conv(a, stride)).relu()))
        right = w.norm(w.conv(w.norm(w.conv(a, stride)).relu()))
        if i % blocks == 0:
            shifted = torch.zeros_like(a)
            shifted[:, :, :-1, :-1] = a[:, :, 1:, 1:]
            x = w.norm(
                torch.cat([w.conv(a[:, :, ::stride, ::stride]), w.conv(shifted[:, :, ::stride, ::stride])], 1)
            )
        x = x + 0.5 * left + 0.5 * right
    return w.classify(x.relu())


def pyramidnet(network: nn.Module, x: Tensor, blocks: int, survivals: list[float]) -> Tensor:
    """Basic units in evaluation, each weighted by its survival probability."""
    w = Weights(network)
    x = w.norm(w.conv(x))
    for stride, survival in zip(first_strides(blocks), survivals, strict=True):
        residual = w.norm(w.conv(w.norm(w.conv(w.norm(x), stride)).relu()))
        if stride == 2:
            x = (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
        x = survival * residual + grow(x, residual.shape[1])
    return w.classify(w.norm(x).relu())
