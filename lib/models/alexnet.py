"""AlexNet (Krizhevsky et al. 2012, "ImageNet classification with deep convolutional networks", section 3.5).

For small images: one linear layer as the classifier, 2x2 pooling, no local response normalisation and no
split over two devices. The widths are those of Krizhevsky 2014, arXiv:1404.5997.
"""

from torch import Tensor, nn

from ..core.registry import models
from .layers import init_he


def layer(in_channels: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2)
    return nn.Sequential(convolution, nn.ReLU(inplace=True))


def pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(2, ceil_mode=True)  # ceil: the 7 pixels of a 28 px image are halved three times


@models.register("alexnet", params=2_472_266, paper="Krizhevsky et al. 2012")
class AlexNet(nn.Module):
    def __init__(self, num_classes: int = 10, in_channels: int = 3):
        super().__init__()
        self.features = nn.Sequential(
            layer(in_channels, 64, 11, stride=4), pool(),
            layer(64, 192, 5), pool(),
            layer(192, 384, 3), layer(384, 256, 3), layer(256, 256, 3), pool(),
        )  # fmt: skip
        self.head = nn.Linear(256, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.features(x)  # (B, 256, H/32, W/32)
        return self.head(x.mean((2, 3)))
