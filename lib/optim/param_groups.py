"""Parameter groups: which parameters share their settings.

A group may have an `lr_scale`, by which its learning rate is multiplied at every step, a `decay_scale` for
its weight decay, and `learns_until`, the time at which it is frozen. Its `matrices` say of each of its
parameters how many matrices of hidden layers it holds, for optimizers that treat those apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..core.contracts import Time
from ..core.errors import require

if TYPE_CHECKING:  # settings are read without torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class ParamGroups:
    decay_norm_and_bias: bool = True  # weight decay on norm layers and biases too, as is usual
    bias_lr_factor: float = 1.0  # biases, those of norm layers too, learn at so many times the rate
    bias_lr_of: Literal["all", "norm"] = "all"  # which biases these are: all, or those of norm layers only
    layer_lr_decay: float = 1.0  # each block learns at so many times the rate of the next one; 1 for none
    even_decay: bool = False  # weight decay over the rate's factors, so that all weights shrink alike
    stem_epochs: Time | None = None  # time after which the first block is frozen
    stem_falls: bool = False  # until then its rate falls to 0 in a straight line, whatever the schedule

    def __post_init__(self):
        require(self.bias_lr_factor > 0, "bias_lr_factor", "above 0", self.bias_lr_factor)
        require(0 < self.layer_lr_decay <= 1, "layer_lr_decay", "above 0 and at most 1", self.layer_lr_decay)
        require(self.stem_epochs is None or self.stem_epochs > 0, "stem_epochs", "above 0", self.stem_epochs)
        falls = not self.stem_falls or self.stem_epochs is not None
        require(falls, "stem_falls", "left off without stem_epochs", self.stem_falls)

    def __call__(self, model: nn.Module) -> list[dict]:
        """The trainable parameters of `model` as groups for a torch optimizer."""
        matrices, blocks, norms = hidden_matrices(model), block_numbers(model), norm_parameters(model)
        last = max(blocks.values(), default=0)
        if self.stem_epochs is not None:
            trained = [blocks[p] for p in model.parameters() if p.requires_grad]
            rule = "none unless the first block is trained, and another one too"
            require(0 in trained and any(trained), "stem_epochs", rule, self.stem_epochs)
        groups: dict[tuple, dict] = {}
        for name, p in model.named_parameters():
            if p.requires_grad:
                settings = self._settings(name, p, blocks[p], last, p in norms)
                group = groups.setdefault(tuple(settings.items()), {"params": [], "matrices": [], **settings})
                group["params"].append(p)
                group["matrices"].append(matrices.get(p, 0))
        return list(groups.values())

    def _settings(
        self, name: str, p: Tensor, block: int, last: int, of_norm: bool
    ) -> dict[str, float | bool]:
        # Biases and the scales of norm layers are the parameters of at most one dimension.
        settings = {} if self.decay_norm_and_bias or p.ndim > 1 else {"weight_decay": 0.0}
        scale = self.layer_lr_decay ** (last - block)
        if name.endswith("bias") and p.ndim <= 1 and (of_norm or self.bias_lr_of == "all"):
            scale *= self.bias_lr_factor
        if scale != 1:
            settings |= {"lr_scale": scale} | ({"decay_scale": 1 / scale} if self.even_decay else {})
        if block == 0 and self.stem_epochs is not None:
            settings |= {"learns_until": self.stem_epochs, "falls": self.stem_falls}
        return settings


def norm_parameters(model: nn.Module) -> set[Tensor]:
    """The scales and shifts of norm layers: what belongs to a module that has no weight matrix."""
    found: set[Tensor] = set()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if getattr(module, "bias", None) is not None and all(p.ndim <= 1 for p in own):
            found |= set(own)
    return found


def head_of(model: nn.Module) -> nn.Module | None:
    """The layer that gives the logits: the last one with a weight matrix or with filters."""
    return (_layers(model) or [None])[-1]


def hidden_matrices(model: nn.Module) -> dict[Tensor, int]:
    """How many matrices the weights of the hidden layers hold; all else (the head, embeddings...) has none.

    A grouped convolution holds one for each of its groups, and attention's common projection three.
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
    """The place of each parameter's block in the order in which the model names its parameters, from 0.

    A block is a child of the model; a plain Sequential or ModuleList is taken apart: it is a row of blocks.
    What has no weight matrix (a norm layer) belongs to the block before it, and parameters of the model's own
    (a position embedding) to the first. On a transformer these are the layers of BEiT (Bao et al. 2021,
    arXiv:2106.08254), whose learning rates decay from the head backwards.
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
    """The network itself, where others only hold it."""
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
