"""ResNet-9 (Page 2018, "How to train your ResNet", part 4): eight convolutions, trained in minutes."""

from torch import Tensor, nn

from ..core.contracts import Count, Positive
from ..core.registry import models
from .layers import conv_bn_relu


def layer(in_channels: int, channels: int) -> nn.Sequential:
    return conv_bn_relu(in_channels, channels, 3)


class Residual(nn.Module):
    """x + layer(layer(x)), with ReLUs in the branch and none after the sum."""

    def __init__(self, channels: int):
        super().__init__()
        self.branch = nn.Sequential(layer(channels, channels), layer(channels, channels))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return x + self.branch(x)


@models.register("resnet9", params=6_573_120, paper="Page 2018 (DAWNBench)")
class ResNet9(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        width: Count = 64,  # channels of the first layer; the last has eight times more
        logit_scale: Positive = 0.125,  # factor of the logits
    ):
        super().__init__()
        w = width
        self.features = nn.Sequential(
            layer(in_channels, w),
            layer(w, 2 * w), nn.MaxPool2d(2), Residual(2 * w),
            layer(2 * w, 4 * w), nn.MaxPool2d(2),
            layer(4 * w, 8 * w), nn.MaxPool2d(2), Residual(8 * w),
        )  # fmt: skip
        self.head = nn.Linear(8 * w, num_classes, bias=False)
        self.logit_scale = logit_scale

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.features(x)  # (B, 8 width, H/8, W/8)
        return self.head(x.amax((2, 3))) * self.logit_scale
