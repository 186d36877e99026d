"""Test-time augmentation: the weighted mean of a network's logits over several views of an image.

Ten crops: Krizhevsky et al. 2012, section 4.1. Six shifted views: Jordan 2024, arXiv:2404.00498, section 3.
"""

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.contracts import Count, Fraction
from ..core.registry import tta

# Maps images (B, C, H, W) to views of the same shape, each with its weight. The weights sum to 1.
ViewsOf = Callable[[Tensor], Iterator[tuple[float, Tensor]]]


class MeanOfViews(nn.Module):
    """The mean of a model's logits over the views of each image."""

    def __init__(self, model: nn.Module, views: ViewsOf):
        super().__init__()
        self.model, self.views = model, views
        self.training = model.training  # not of its modules: frozen ones stay in eval mode

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        return sum(weight * self.model(view).float() for weight, view in self.views(x))


@tta.register("tta_flip")
def tta_flip(model: nn.Module) -> MeanOfViews:
    """The image and its mirror image."""

    def views(x: Tensor) -> Iterator[tuple[float, Tensor]]:
        yield from ((0.5, x), (0.5, x.flip(-1)))

    return MeanOfViews(model, views)


@tta.register("tta_shifts", paper="Jordan 2024, arXiv:2404.00498")
def tta_shifts(
    model: nn.Module,
    pixels: Count = 1,  # shift of two of the views, up left and down right
) -> MeanOfViews:
    """Half the weight on the image, half on it shifted along the diagonal; each also mirrored."""

    def views(x: Tensor) -> Iterator[tuple[float, Tensor]]:
        H, W = x.shape[-2:]
        padded = F.pad(x, (pixels,) * 4, mode="reflect")
        end = 2 * pixels
        shifted = padded[..., :H, :W], padded[..., end : end + H, end : end + W]
        for weight, view in ((0.25, x), (0.125, shifted[0]), (0.125, shifted[1])):
            yield from ((weight, view), (weight, view.flip(-1)))

    return MeanOfViews(model, views)


class WhereUnsure(nn.Module):
    """A model that passes the images that it is not sure of to another one."""

    def __init__(self, model: nn.Module, better: nn.Module, below: float):
        super().__init__()
        self.model, self.better, self.below = model, better, below
        self.training = model.training  # not of its modules: frozen ones stay in eval mode

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        logits = self.model(x).float()
        unsure = (logits.softmax(1).amax(1) < self.below).nonzero().squeeze(1)
        return logits.index_copy(0, unsure, self.better(x[unsure])) if len(unsure) else logits


@tta.register("tta_unsure", paper="Hiverge 2025, cifar10-speedrun")
def tta_unsure(
    model: nn.Module,
    below: Fraction = 0.8,  # largest class probability under which an image gets more views
    pixels: Count = 1,  # shift of two of these views, as in tta_shifts
) -> WhereUnsure:
    """The six views of tta_shifts for images that the model is not sure of, and one for the others.

    The source takes the least sure quarter of the test set. With a threshold, the prediction for an image
    does not depend on the other images.
    """
    return WhereUnsure(model, tta_shifts(model, pixels), below)


@tta.register("tta_ten_crop", aliases=("ten_crop",), paper="Krizhevsky et al. 2012")
def tta_ten_crop(
    model: nn.Module,
    padding: Count = 4,  # mirrored pixels added on every side
) -> MeanOfViews:
    """The four corners and the centre of the padded image, each also mirrored."""

    def views(x: Tensor) -> Iterator[tuple[float, Tensor]]:
        H, W = x.shape[-2:]
        padded = F.pad(x, (padding,) * 4, mode="reflect")
        end = 2 * padding
        for top, left in ((0, 0), (0, end), (end, 0), (end, end), (padding, padding)):
            view = padded[..., top : top + H, left : left + W]
            yield from ((0.1, view), (0.1, view.flip(-1)))

    return MeanOfViews(model, views)
