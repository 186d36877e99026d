"""Patch whitening of the first convolution (Jordan 2024, arXiv:2404.00498, section 3; Page 2018).

Its filters become the principal components of the training images' patches, each divided by the square root
of its eigenvalue, and then the negatives of these. Where there are fewer filters, the largest components are
taken; where there are more, the others stay as they were drawn.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.contracts import NonNegative
from ..core.facts import InitOrder
from ..core.registry import initialisations
from ..graph.trace import trace

AT_ONCE = 250  # images: the patches of all would take gigabytes


@initialisations.register("whitening", order=InitOrder.DATA, paper="Jordan 2024, arXiv:2404.00498")
@torch.no_grad()
def whitening(
    model: nn.Module,
    shape: tuple[int, int, int],
    images: Callable[[], Tensor],
    eps: NonNegative = 5e-4,  # added to the eigenvalues; limits the gain of rare directions
    freeze: bool = False,  # do not train these filters; airbench networks freeze them anyway
) -> nn.Module:
    """Patch whitening: the first convolution starts as the principal components of the images' patches."""
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
    """The eigenvalues, falling, and eigenvectors of the second moment of all patches.

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
    # Rounding makes zero eigenvalues negative; the sign of a vector is left to the algorithm, so fix it.
    sums = vectors.sum(0)
    vectors = vectors * torch.where(sums < 0, -1.0, 1.0)
    return values.flip(0).clamp(min=0), vectors.T.flip(0).view(size, x.shape[1], *kernel)
