"""Predictions of a model for the images of a data set, for use in your own training loop."""

from dataclasses import replace

from torch import Tensor, nn

from ..core.contracts import validated
from ..core.precision import Precision
from ..data.images import Images
from ..engine import evaluate as engine
from ..engine.evaluate import Evaluation


@validated
def evaluate(model: nn.Module, images: Images, precision: Precision = "fp32") -> Evaluation:
    """Evaluate a model in eval mode, and restore its modes.

    Args:
        model: maps normalised (B, C, H, W) on the device of the images to (B, K) logits.
        images: `loader.test`, `loader.train`, `loader.val`, or a part of them by `take`.
        precision: of the model's arithmetic.
    Returns:
        `accuracy` in percent, mean cross-entropy `loss`, and `logits` (N, K) on the CPU.
    Raises:
        ValueError: the precision is not one of these.
    """
    found = engine.evaluate(model, images.split, images.normalize, precision)
    return replace(found, logits=found.logits.clone())  # inference tensors cannot take part in a loss


def predict(model: nn.Module, images: Images, precision: Precision = "fp32") -> Tensor:
    """The class probabilities (N, K) on the CPU; arguments as in `evaluate`."""
    return evaluate(model, images, precision).logits.softmax(1)
