"""Shake-Shake regularisation (Gastaldi 2017, arXiv:1705.07485).

A random alpha mixes the two branches of a unit in the forward pass, and an independent beta in the backward
pass.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.registry import models
from .layers import basic_branch, blocks_per_stage, conv, draw, init_he


class Mix(torch.autograd.Function):
    """alpha * a + (1 - alpha) * b, with the gradient of beta * a + (1 - beta) * b."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        ctx.save_for_backward(beta)  # (B, 1, 1, 1); the branches themselves are not needed
        return torch.lerp(b, a, alpha)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (beta,) = ctx.saved_tensors
        to_a = gradient * beta
        return to_a, gradient - to_a, None, None


class ShakeShake(nn.Module):
    """Mix two branches: `shake` draws a coefficient, `even` is 0.5, `keep` repeats the forward one."""

    def __init__(self, forward_mode: str, backward_mode: str, level: str):
        super().__init__()
        self.forward_mode, self.backward_mode, self.per_image = forward_mode, backward_mode, level == "image"

    def forward(self, a: Tensor, b: Tensor) -> Tensor:  # (B, C, H, W) twice -> (B, C, H, W)
        if not self.training:
            return (a + b) / 2
        alpha = self.coefficient(self.forward_mode, a)
        beta = alpha if self.backward_mode == "keep" else self.coefficient(self.backward_mode, a)
        return Mix.apply(a, b, alpha, beta)

    def coefficient(self, mode: str, x: Tensor) -> Tensor:  # (B or 1, 1, 1, 1)
        even = x.new_full((1, 1, 1, 1), 0.5)
        return even if mode == "even" else draw(x, per_image=self.per_image).to(x.dtype)


class TwoPathShortcut(nn.Module):
    """Half of the channels read the even pixels and half the odd ones, so that a stride of 2 skips none."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.straight = conv(in_channels, out_channels // 2, 1, stride)
        self.shifted = conv(in_channels, out_channels // 2, 1, stride)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        shifted = F.pad(x, (-1, 1, -1, 1))  # shifted up and left by one pixel, padded with zeros
        return self.norm(torch.cat([self.straight(x), self.shifted(shifted)], dim=1))


class ShakeBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int, mix: ShakeShake):
        super().__init__()
        self.left = basic_branch(in_channels, channels, stride)
        self.right = basic_branch(in_channels, channels, stride)
        self.mix = mix
        changes = stride != 1 or in_channels != channels
        self.shortcut = TwoPathShortcut(in_channels, channels, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        activated = F.relu(x)  # once: both branches start with it
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.mix(self.left(activated), self.right(activated))


class ShakeResNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: int = 26,  # 6n + 2
        width: Count = 32,  # channels of the first stage; each further stage doubles them
        forward: Literal["shake", "even"] = "shake",  # coefficient of the branches: random, or 0.5
        backward: Literal["shake", "even", "keep"] = "shake",  # of their gradients; keep: as in forward
        level: Literal["image", "batch"] = "image",  # draw coefficients per image or per batch
    ):
        super().__init__()
        blocks = blocks_per_stage(depth, 6, 2)
        self.stem = nn.Sequential(conv(in_channels, 16, 3), nn.BatchNorm2d(16))  # the units start with a ReLU
        stages, before = [], 16
        for stage, channels in enumerate((width, width * 2, width * 4)):
            for i in range(blocks):
                mix = ShakeShake(forward, backward, level)
                stages.append(ShakeBlock(before, channels, 2 if i == 0 and stage > 0 else 1, mix))
                before = channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = F.relu(self.stages(self.stem(x)))  # (B, 4 * width, H/4, W/4)
        return self.head(x.mean((2, 3)))


register = partial(models.register, paper="Gastaldi 2017, arXiv:1705.07485")

register("shake_resnet26_2x32d", partial(ShakeResNet, depth=26, width=32), params=2_923_162)
register("shake_resnet26_2x64d", partial(ShakeResNet, depth=26, width=64), params=11_653_978)
register("shake_resnet26_2x96d", partial(ShakeResNet, depth=26, width=96), params=26_192_922)
register("shake_resnet26_2x128d", partial(ShakeResNet, depth=26, width=128), params=46_539_994)
