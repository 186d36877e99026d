"""What three or more families share: convolutions, their initialisation, and noise drawn once an image."""

import torch
from torch import Tensor, nn


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps H and W, up to the stride, without the bias that a BatchNorm makes useless."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


def init_he(network: nn.Module) -> None:
    """Draw every convolution as in He et al. 2015, arXiv:1502.01852, section 2.2, and set all biases to zero.

    The variance is 2 / (kernel area * output channels), the paper's equation 14, as in its authors' ResNets.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def draw(x: Tensor, low: float = 0.0, high: float = 1.0, per_image: bool = True) -> Tensor:
    """Uniform numbers in [low, high) that broadcast over x: (B, 1, ..., 1), or (1, 1, ..., 1) for the batch.

    They come from torch's global generator, which the step seeds, and in float32, whose digits probabilities
    need. Cast what multiplies x to `x.dtype`, or the residual stream leaves the low precision of autocast.
    """
    shape = (len(x) if per_image else 1, *(1,) * (x.ndim - 1))
    return torch.empty(shape, device=x.device).uniform_(low, high)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382, section 3), drawn per image.

    A kept branch is divided by its survival probability in training, so that evaluation is the identity.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:  # (B, ...) -> (B, ...)
        if not self.training or self.rate == 0:
            return x
        kept = (draw(x) >= self.rate) / (1 - self.rate)
        return x * kept.to(x.dtype)


@torch.no_grad()
def try_image(network: nn.Module, in_channels: int, image_size: int) -> None:
    """Send an image through: many models are too deep for 32 px, which not all of them say when built."""
    device = next(network.parameters()).device
    network.eval()(torch.zeros(1, in_channels, image_size, image_size, device=device))
    network.train()
