"""Grad-CAM (Selvaraju et al. 2016, arXiv:1610.02391, section 3): where a network sees a class.

The map is taken from the last layer of any network that still has positions: feature maps (B, C, H, W), or
tokens (B, N, D) of a square of patches, after a class token if there is one.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 4  # positions a side, at least, where the network has such a layer: a coarser map shows nothing


def grad_cam(model: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    """The evidence for `classes` (B,) in images x (B, C, H, W): (B, H, W), with a maximum of 1 per image.

    Raises:
        ValueError: no layer of the network has positions.
    """
    outputs: list[Tensor] = []

    def remember(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad and _side(output):
            outputs.append(output)

    hooks = [module.register_forward_hook(remember) for module in model.modules()]
    try:
        with torch.enable_grad():
            # From the images on, as the weights of an average need no gradients.
            x = x.detach().requires_grad_()
            score = model(x).gather(1, classes[:, None]).sum()
            gradients = torch.autograd.grad(score, [x, *outputs], allow_unused=True)[1:]
    finally:
        for hook in hooks:
            hook.remove()
    found = [
        (_positions(output.detach()), _positions(gradient))
        for output, gradient in zip(outputs, gradients, strict=True)
        if gradient is not None
    ]
    # The class token alone is read at the end: later tokens of patches have no gradient.
    found = [(a, g) for a, g in found if g.any()]
    if not found:
        raise ValueError("model must have a layer with positions, got one without")
    fine = [(a, g) for a, g in found if a.shape[-1] >= SIDE]
    activations, gradient = (fine or found)[-1]
    weights = gradient.mean((2, 3), keepdim=True)  # equation 1
    evidence = (weights * activations).sum(1, keepdim=True).relu()  # equation 2
    evidence = F.interpolate(evidence.float(), x.shape[2:], mode="bilinear")[:, 0]
    return evidence / evidence.amax((1, 2), keepdim=True).clamp(min=torch.finfo(evidence.dtype).tiny)


def _side(output: Tensor) -> int:
    """The positions a side of feature maps, or of a square of tokens; 0 if it has less than two."""
    if output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
        return output.shape[2]
    side = math.isqrt(output.shape[1]) if output.ndim == 3 else 0
    return side if side > 1 and output.shape[1] - side * side in (0, 1) else 0


def _positions(output: Tensor) -> Tensor:
    """Feature maps (B, C, H, W), also of tokens (B, N, D) without a class token."""
    if output.ndim == 4:
        return output
    side = _side(output)
    return output[:, -side * side :].mT.unflatten(2, (side, side))
