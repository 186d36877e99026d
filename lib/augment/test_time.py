"""Test-time views: the weighted mean of a network's logits over several views of an image.

Ten crops are those of Krizhevsky et al. 2012, section 4.1; six shifted views those of Jordan 2024,
arXiv:2404.00498, section 3.
"""

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import require
from ..core.registry import tta

# Images (B, C, H, W) to their views of the same shape, each with its weight; the weights add up to 1.
ViewsOf = Callable[[Tensor], Iterator[tuple[float, Tensor]]]


class MeanOfViews(nn.Module):
    """A network that gives the mean of another one's logits over the views of each image."""

    def __init__(self, model: nn.Module, views: ViewsOf):
        super().__init__()
        self.model, self.views = model, views
        self.train(model.training)

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
    pixels: int = 1,  # by which two of the views are moved, up left and down right
) -> MeanOfViews:
    """Half the weight on the image, half on it moved along the diagonal; each mirrored too."""
    require(pixels > 0, "pixels", "at least 1", pixels)

    def views(x: Tensor) -> Iterator[tuple[float, Tensor]]:
        H, W = x.shape[-2:]
        padded = F.pad(x, (pixels,) * 4, mode="reflect")
        end = 2 * pixels
        moved = padded[..., :H, :W], padded[..., end : end + H, end : end + W]
        for weight, view in ((0.25, x), (0.125, moved[0]), (0.125, moved[1])):
            yield from ((weight, view), (weight, view.flip(-1)))

    return MeanOfViews(model, views)


class WhereUnsure(nn.Module):
    """A network that asks another one for the images that it is not sure of."""

    def __init__(self, model: nn.Module, better: nn.Module, below: float):
        super().__init__()
        self.model, self.better, self.below = model, better, below
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        logits = self.model(x).float()
        unsure = (logits.softmax(1).amax(1) < self.below).nonzero().squeeze(1)
        return logits.index_copy(0, unsure, self.better(x[unsure])) if len(unsure) else logits


@tta.register("tta_unsure", paper="Hiverge 2025, cifar10-speedrun")
def tta_unsure(
    model: nn.Module,
    below: float = 0.8,  # the probability of an image's likeliest class under which more views are looked at
    pixels: int = 1,  # by which two of these are moved, as in tta_shifts
) -> WhereUnsure:
    """The six views of tta_shifts for the images that the network is not sure of, and one for the others.

    The source takes the least sure quarter of the test set. With a threshold, what an image is taken for does
    not depend on the images beside it.
    """
    require(0 < below <= 1, "below", "above 0 and at most 1", below)
    return WhereUnsure(model, tta_shifts(model, pixels), below)


@tta.register("tta_ten_crop", aliases=("ten_crop",), paper="Krizhevsky et al. 2012")
def tta_ten_crop(
    model: nn.Module,
    padding: int = 4,  # pixels added on every side, mirrored from within
) -> MeanOfViews:
    """The four corners and the centre of the padded image, each mirrored too."""
    require(padding > 0, "padding", "at least 1", padding)

    def views(x: Tensor) -> Iterator[tuple[float, Tensor]]:
        H, W = x.shape[-2:]
        padded = F.pad(x, (padding,) * 4, mode="reflect")
        end = 2 * padding
        for top, left in ((0, 0), (0, end), (end, 0), (end, end), (padding, padding)):
            view = padded[..., top : top + H, left : left + W]
            yield from ((0.1, view), (0.1, view.flip(-1)))

    return MeanOfViews(model, views)
