"""What a network makes of the images of a data set, for a training loop of your own."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

from torch import Tensor, nn

from ..core.errors import require
from ..core.precision import Precision
from ..data.base import Split
from ..engine import evaluate as evaluation
from ..engine.evaluate import Evaluation


@dataclass(frozen=True)
class Images:
    """A part of a data set as it is: every image once, in its order, without augmentation."""

    split: Split
    normalize: Callable[[Tensor], Tensor]  # (B, C, H, W) uint8 to the float32 that a model takes

    @property
    def x(self) -> Tensor:
        """(N, C, H, W) uint8."""
        return self.split.x

    @property
    def y(self) -> Tensor:
        """(N,) the classes."""
        return self.split.y

    def __len__(self) -> int:
        return len(self.split)

    def take(self, index: Tensor | slice) -> "Images":
        """Some of them, in this order."""
        return replace(self, split=self.split.take(index))


def evaluate(model: nn.Module, images: Images, precision: Precision = "fp32") -> Evaluation:
    """What a model makes of images: `accuracy` in percent, mean cross-entropy `loss`, and `logits` (N, K).

    The model is asked in eval mode, and left in the mode that it was in. Logits are on the CPU.

    Args:
        model: takes (B, C, H, W) normalised to (B, K) logits, on the loader's device.
        images: `loader.test`, `loader.train`, `loader.val`, or some of them by `take`.
        precision: fp32, bf16 or fp16, of the model's arithmetic.
    Raises:
        ValueError: the precision is none of these.
    """
    require(precision in get_args(Precision), "precision", "fp32, bf16 or fp16", precision)
    found = evaluation.evaluate(model, images.split, images.normalize, precision)
    return replace(found, logits=found.logits.clone())  # of the clone a loss may be made


def predict(model: nn.Module, images: Images, precision: Precision = "fp32") -> Tensor:
    """The probabilities (N, K) that a model gives to the classes of images, on the CPU; as `evaluate`."""
    return evaluate(model, images, precision).logits.softmax(1)
