"""Parameter groups: which parameters share their settings, and what a group may set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self

from ..core.budget import Progress, in_epochs
from ..core.contracts import Fraction, Positive, PositiveTime, validated
from ..core.errors import require

if TYPE_CHECKING:  # settings are read without torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class GroupOptions:
    """What a parameter group may set besides the arguments of its optimizer.

    In the group these are plain entries, as torch's own are: a checkpoint holds them, and a group may be
    written by hand, `{"params": [...], "lr_scale": 0.1}`.
    """

    lr_scale: float = 1.0  # multiplies the learning rate
    decay_scale: float = 1.0  # multiplies the weight decay
    learns_until: float | None = None  # time at which the group is frozen; none for never
    falls: bool = False  # until then the learning rate falls linearly to 0, whatever the schedule
    matrices: Sequence[int] | None = None  # of hidden layers, in each of the parameters

    @classmethod
    def of(cls, group: dict[str, Any]) -> Self:
        """The options of a group of an optimizer."""
        return cls(**{f.name: group[f.name] for f in fields(cls) if f.name in group})

    def entries(self) -> dict[str, Any]:
        """The entries of a group with these options: those that differ from the defaults."""
        values = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def learns(self, progress: Progress) -> bool:
        """Whether the group is trained in this step."""
        return self.learns_until is None or progress.epoch < in_epochs(self.learns_until, progress.epochs)

    def factor(self, progress: Progress, schedule: float) -> float:
        """The factor of the learning rate, which is the schedule's unless it falls to 0 earlier."""
        if not self.falls:
            return schedule
        return max(0.0, 1 - progress.epoch / in_epochs(self.learns_until, progress.epochs))


@validated
@dataclass(frozen=True)
class ParamGroups:
    decay_norm_and_bias: bool = True  # weight decay on norm layers and biases too, as is usual
    bias_lr_factor: Positive = 1.0  # multiplies the learning rate of biases
    bias_lr_of: Literal["all", "norm"] = "all"  # biases it applies to: all, or those of norm layers only
    layer_lr_decay: Fraction = 1.0  # ratio of the learning rates of each block and the next; 1: none
    even_decay: bool = False  # divide weight decay by the factors of the learning rate
    stem_epochs: PositiveTime | None = None  # time after which the first block is frozen
    stem_falls: bool = False  # let its learning rate fall linearly to 0 until then

    def __post_init__(self):
        falls = not self.stem_falls or self.stem_epochs is not None
        require(falls, "stem_falls", "off without stem_epochs", self.stem_falls)

    def __call__(self, model: nn.Module) -> list[dict]:
        """The trainable parameters of `model` as groups for a torch optimizer."""
        matrices, blocks, norms = hidden_matrices(model), block_numbers(model), norm_parameters(model)
        last = max(blocks.values(), default=0)
        if self.stem_epochs is not None:
            trained = [blocks[p] for p in model.parameters() if p.requires_grad]
            rule = "none unless the first block and another one are trained"
            require(0 in trained and any(trained), "stem_epochs", rule, self.stem_epochs)
        groups: dict[tuple[bool, GroupOptions], list[Tensor]] = {}
        for name, p in model.named_parameters():
            if p.requires_grad:
                # Biases and the scales of norm layers are the parameters of at most one dimension.
                decays = self.decay_norm_and_bias or p.ndim > 1
                options = self._options(name, p, blocks[p], last, p in norms)
                groups.setdefault((decays, options), []).append(p)
        return [
            {"params": params, "matrices": [matrices.get(p, 0) for p in params]}
            | ({} if decays else {"weight_decay": 0.0})
            | options.entries()
            for (decays, options), params in groups.items()
        ]

    def _options(self, name: str, p: Tensor, block: int, last: int, of_norm: bool) -> GroupOptions:
        scale = self.layer_lr_decay ** (last - block)
        if name.endswith("bias") and p.ndim <= 1 and (of_norm or self.bias_lr_of == "all"):
            scale *= self.bias_lr_factor
        stem = block == 0 and self.stem_epochs is not None
        return GroupOptions(
            lr_scale=scale,
            decay_scale=1 / scale if self.even_decay else 1.0,
            learns_until=self.stem_epochs if stem else None,
            falls=self.stem_falls and stem,
        )


def norm_parameters(model: nn.Module) -> set[Tensor]:
    """The scales and shifts of norm layers: parameters of modules without a weight matrix."""
    found: set[Tensor] = set()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if getattr(module, "bias", None) is not None and all(p.ndim <= 1 for p in own):
            found |= set(own)
    return found


def head_of(model: nn.Module) -> nn.Module | None:
    """The layer that computes the logits: the last linear or convolutional one."""
    return (_layers(model) or [None])[-1]


def hidden_matrices(model: nn.Module) -> dict[Tensor, int]:
    """The number of matrices in each weight of the hidden layers, which the head and embeddings are not.

    A grouped convolution has one per group, and the joint projection of attention three.
    """
    from torch import nn

    found: dict[Tensor, int] = {}
    head = head_of(model)
    for layer in _layers(model):
        # The filters of a depthwise convolution are vectors: no matrix mixes its channels.
        groups = getattr(layer, "groups", 1)
        if layer is not head and (groups == 1 or layer.in_channels > groups):
            found |= {p: groups for p in layer.parameters() if p.ndim > 1}
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found[module.in_proj_weight] = 3
    return found


def block_numbers(model: nn.Module) -> dict[Tensor, int]:
    """The number of each parameter's block, from 0, in the order of the model's parameters.

    A block is a child of the model; each child of a plain Sequential or ModuleList is a block as well. A norm
    layer or another module without a weight matrix belongs to the block before it, and a parameter of the
    model itself (a position embedding) to the first. For a transformer these are the layers of BEiT (Bao et
    al. 2021, arXiv:2106.08254), where learning rates decay from the head backwards.
    """
    numbers = dict.fromkeys(model.parameters(), 0)
    number = -1
    for block in _blocks(_inside(model)):
        number += any(p.ndim > 1 for p in block.parameters())
        numbers |= dict.fromkeys(block.parameters(), max(number, 0))
    return numbers


def _layers(model: nn.Module) -> list[nn.Module]:
    from torch import nn

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [module for module in model.modules() if isinstance(module, kinds)]


def _inside(model: nn.Module) -> nn.Module:
    """The network itself, inside modules that only wrap it."""
    children = _children(model)
    return _inside(children[0]) if len(children) == 1 and _children(children[0]) else model


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    from torch import nn

    for child in _children(module):
        if type(child) in (nn.Sequential, nn.ModuleList):
            yield from _blocks(child)
        else:
            yield child


def _children(module: nn.Module) -> list[nn.Module]:
    return [child for child in module.children() if any(True for _ in child.parameters())]
