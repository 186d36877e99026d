"""Metrics: accuracy in training; top-5, calibration error and temperature, confusion matrix.

Functions of (N, K) logits and (N,) classes on one device; fractions of images are in percent. Calibration and
temperature scaling: Guo et al. 2017, arXiv:1706.04599, sections 2 and 4.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 15  # as in the paper's tables


class TrainAccuracy:
    """Counts the samples that a network in training gets right, without synchronizing with the device.

    Right is a prediction of the likeliest class of the target, or of one of them: after mixing, the class
    with the largest weight.
    """

    def __init__(self):
        self._right: Tensor | int = 0
        self._samples = 0

    def add(self, logits: Tensor, y: Tensor) -> None:  # (B, K), (B, K)
        guess = logits.detach().argmax(1, keepdim=True)
        self._right += (y.gather(1, guess) == y.amax(1, keepdim=True)).sum()
        self._samples += len(y)

    def read(self) -> tuple[int, int]:
        """The samples that were right since the last call, and all samples; synchronizes."""
        counts = int(self._right), self._samples
        self._right = self._samples = 0
        return counts


def top_k(logits: Tensor, y: Tensor, k: int) -> float:
    """Images whose class is among the k with the highest logits, in percent."""
    return 100 * (logits.topk(k, 1).indices == y[:, None]).any(1).double().mean().item()


def nll(logits: Tensor, y: Tensor, temperature: float = 1.0) -> float:
    """The mean negative log-likelihood (cross-entropy) of the logits divided by `temperature`."""
    return F.cross_entropy(logits.double() / temperature, y).item()


def calibration_error(logits: Tensor, y: Tensor, temperature: float = 1.0, bins: int = BINS) -> float:
    """The expected calibration error (equation 3), in percent. Bins have equal width and are open below."""
    confidence, guess = (logits.double() / temperature).softmax(1).max(1)
    inner = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=logits.device)[1:-1]
    place = torch.bucketize(confidence, inner)
    # |accuracy - confidence| of a bin times its fraction of the images is the sum of their differences.
    gap = confidence.new_zeros(bins).index_add_(0, place, (guess == y).double() - confidence)
    return 100 * gap.abs().sum().item() / len(y)


def best_temperature(logits: Tensor, y: Tensor, low: float = 1e-3, high: float = 1e3) -> float:
    """The temperature with the lowest NLL within the bounds.

    The derivative of the NLL by 1/T is the expected logit minus that of the true class. It increases with
    1/T, so bisection (of logarithms) finds its only zero.
    """
    logits = logits.double()
    true = logits.gather(1, y[:, None])[:, 0].mean()
    low, high = (torch.tensor(t, dtype=torch.float64, device=logits.device).log() for t in (low, high))
    for _ in range(50):
        middle = (low + high) / 2
        too_sharp = ((logits / middle.exp()).softmax(1) * logits).sum(1).mean() > true
        low, high = torch.where(too_sharp, middle, low), torch.where(too_sharp, high, middle)
    return ((low + high) / 2).exp().item()


def confusion(logits: Tensor, y: Tensor) -> Tensor:
    """(K, K) counts: rows are true classes, columns predicted ones."""
    K = logits.shape[1]
    return torch.bincount(y * K + logits.argmax(1), minlength=K * K).view(K, K)


def class_accuracy(counts: Tensor) -> Tensor:
    """(K,) accuracy of each class in percent, from a confusion matrix; NaN for a class without images."""
    return 100 * counts.diagonal().double() / counts.sum(1)


def beyond_accuracy(logits: Tensor, y: Tensor) -> dict[str, float]:
    """Columns of a record: `top5`, with at least 10 classes, and `ece`."""
    top5 = {"top5": top_k(logits, y, 5)} if logits.shape[1] >= 10 else {}
    return top5 | {"ece": calibration_error(logits, y)}
