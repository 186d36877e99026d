"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B).

In its modern form: max-pooling instead of trainable subsampling, ReLU instead of tanh, a second convolution
that reads all channels, and a linear classifier instead of radial basis functions.
"""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from ..core.registry import models


@models.register("lenet", params=62_006, paper="LeCun et al. 1998")
class LeNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: Annotated[int, Ge(16)] = 32,  # two 5x5 convolutions and poolings must leave a pixel
    ):
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(16 * side * side, 120), nn.ReLU(inplace=True),
            nn.Linear(120, 84), nn.ReLU(inplace=True),
            nn.Linear(84, num_classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.features(x)  # (B, 16, 5, 5) at 32 px
        return self.classifier(x.flatten(1))
