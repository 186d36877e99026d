"""Patch whitening of the first convolution (Jordan 2024, arXiv:2404.00498, section 3; Page 2018).

Its filters become the principal components of the patches of the training images, each divided by the square
root of its eigenvalue, and the negatives of these. With fewer filters the largest components are used; with
more, the other filters keep their initialisation.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.contracts import NonNegative
from ..core.facts import InitOrder
from ..core.registry import initialisations
from ..graph.trace import trace

AT_ONCE = 250  # images per chunk: the patches of all would take gigabytes


@initialisations.register("whitening", order=InitOrder.DATA, paper="Jordan 2024, arXiv:2404.00498")
@torch.no_grad()
def whitening(
    model: nn.Module,
    shape: tuple[int, int, int],
    images: Callable[[], Tensor],
    eps: NonNegative = 5e-4,  # added to the eigenvalues; limits the gain of rare directions
    freeze: bool = False,  # do not train these filters; airbench networks freeze them anyway
) -> nn.Module:
    """Patch whitening: initialise the first convolution with the principal components of image patches."""
    graph = trace(model, shape)
    first = next((m for call, m in graph.called(nn.Conv2d) if call.before == graph.image), None)
    if type(first) is not nn.Conv2d or first.groups > 1:
        raise ValueError("the model has no plain convolution that reads the image, without groups")
    values, vectors = principal_components(images(), first.kernel_size)
    filters = vectors / torch.sqrt(values + eps)[:, None, None, None]
    count = min(len(filters), first.out_channels // 2)
    if count == 0:
        raise ValueError("the model has only one filter in its first convolution, and two are needed")
    first.weight[: 2 * count] = torch.cat([filters[:count], -filters[:count]]).to(first.weight.dtype)
    if freeze:
        first.weight.requires_grad_(False)
    return model


def principal_components(x: Tensor, kernel: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The eigenvalues, in descending order, and eigenvectors of the second moment of all patches.

    Args:
        x: (N, C, H, W) normalised images.
    Returns:
        (D,) and (D, C, h, w) in float64, D = C h w.
    """
    size = x.shape[1] * kernel[0] * kernel[1]
    moment, count = torch.zeros(size, size, dtype=torch.float64), 0
    for part in x.split(AT_ONCE):
        patches = F.unfold(part, kernel).transpose(1, 2).reshape(-1, size)
        moment += (patches.T @ patches).double()
        count += len(patches)
    values, vectors = torch.linalg.eigh(moment / count)
    # Rounding may make zero eigenvalues negative; the sign of a vector is undefined, so fix it.
    sums = vectors.sum(0)
    vectors = vectors * torch.where(sums < 0, -1.0, 1.0)
    return values.flip(0).clamp(min=0), vectors.T.flip(0).view(size, x.shape[1], *kernel)
