"""The most confident mistakes of a network on test images, with the parts of each image that led to them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.images import Images
from ..graph.grad_cam import grad_cam
from .image_grid import ImageRow, draw_grid, short

COLUMNS = 8
FAINT = 0.2  # brightness of pixels without evidence


@dataclass(frozen=True)
class Mistake:
    index: int  # of the image in its split
    true: str
    predicted: str
    percent: float  # probability of the predicted class
    image: Tensor  # (3, H, W) uint8
    evidence: Tensor  # the image, bright where Grad-CAM finds evidence for the predicted class


def most_confident(
    model: nn.Module, images: Images, logits: Tensor, classes: tuple[str, ...], count: int
) -> list[Mistake]:
    """The mistakes with the highest probability of the predicted class, in that order; at most `count`.

    Args:
        model: in eval mode.
        logits: (N, K) of the model for the images, on the CPU.
    """
    p, guess = logits.float().softmax(1).max(1)
    y = images.y.cpu()
    wrong = (guess != y).nonzero()[:, 0]
    index = wrong[p[wrong].argsort(descending=True, stable=True)][:count]
    if not len(index):
        return []
    (pixels,) = images.split.read([index.to(images.y.device)])
    evidence = grad_cam(model, images.normalize(pixels), guess[index].to(pixels.device))
    pixels = pixels if pixels.shape[1] == 3 else pixels.float().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    bright = pixels * (FAINT + (1 - FAINT) * evidence[:, None])
    pixels, bright = pixels.to("cpu", torch.uint8), bright.to("cpu", torch.uint8)
    return [
        Mistake(i, classes[y[i]], classes[guess[i]], 100 * p[i].item(), pixels[place], bright[place])
        for place, i in enumerate(index.tolist())
    ]


def draw_mistakes(mistakes: list[Mistake], title: str) -> bytes:
    """The mistakes as a PNG: each image, and below it the evidence for the predicted class."""
    rows = []
    for start in range(0, len(mistakes), COLUMNS):
        part = mistakes[start : start + COLUMNS]
        texts = [(short(one.true), short(one.predicted), f"{one.percent:.1f} %") for one in part]
        captions = [[[f"is {true}"], [predicted, percent]] for true, predicted, percent in texts]
        images = [[one.image, one.evidence] for one in part]
        rows.append(ImageRow(f"{start + 1} to {start + len(part)}", "", images, captions))
    return draw_grid(rows, title)
