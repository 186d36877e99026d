"""The network of a run, with its surgery and its initial weights."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ..config.schema import Choice, Config
from ..core.dist import World
from ..core.errors import BadInput, located, out_of_memory
from ..core.registry import SOURCES
from ..core.rng import Rng
from ..data.base import DataSpec
from ..store.checkpoint import Checkpoint
from ..surgery.sync_batchnorm import synchronise
from .finetune import freeze, names_of_head

NOISE = 64  # images of noise, used instead of training images where nothing is trained


def build_model(
    config: Config,
    shape: tuple[int, int, int],
    num_classes: int,
    images: Callable[[], Tensor] | None = None,
    trained: bool = True,
) -> nn.Module:
    """The network for images of `shape` (C, H, W), with its surgery; its weights are a function of the seed.

    Args:
        images: returns normalized training images, from which some initial weights are computed; none uses
            noise, for a network that is only inspected or gets other weights.
        trained: whether to load weights that an option of the model asks for.
    """
    channels, height, _ = shape
    init = Rng(config.train.seed, "init")
    init.seed_noise()
    choice = config.chosen["model"]
    if not trained and "pretrained" in choice.options:
        choice = replace(choice, options=choice.options | {"pretrained": False})
    model = _create(choice, num_classes=num_classes, in_channels=channels, image_size=height)
    for name, choice in in_order(config.tricks["surgery"]):
        init.fold(name).seed_noise()
        model = _operate(config, choice, model, shape)
    exclusive(config.tricks["init"], "draws", "draw all weights")
    noise = partial(init.fold("images").uniform, NOISE, *shape, like=torch.empty(0))
    for name, choice in in_order(config.tricks["init"]):
        init.fold(name).seed_noise()
        model = choice.build(model=model, shape=shape, images=images or noise)
    if config.train.freeze:
        freeze(model, config.train.freeze, lambda: names_of_head(untrained(config), shape, num_classes))
    return model


def untrained(config: Config) -> Callable[..., nn.Module]:
    """`(shape, num_classes)` to networks of the configuration, of which only the structure matters."""
    train = replace(config.train, freeze=None)
    return partial(build_model, replace(config, settings=config.settings | {"train": train}), trained=False)


def _create(choice: Choice, **given: int) -> nn.Module:
    """The model as its file builds it; any error of that file is the user's, and names its line."""
    try:
        model = choice.build(**given)
        if not isinstance(model, nn.Module):
            raise TypeError(f"must return a torch.nn.Module, got {type(model).__name__}")
    except Exception as error:
        if isinstance(error, BadInput) or out_of_memory(error):
            raise
        raise BadInput(f"model {choice.entry.name}: {located(error, SOURCES / 'models')}") from error
    return model


def _operate(config: Config, choice: Choice, model: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """The model after one surgery; an error names the option of the model with the same effect."""
    try:
        return choice.build(model=model, shape=shape)
    except BadInput as error:
        options, facts = config.chosen["model"].options, choice.entry.facts
        own = [f"--model.{name.replace('_', '-')}" for name in facts.own if name in options]
        hint = f"; the model has its own option, {own[0]}" if own else ""
        raise BadInput(f"{error}{hint}") from error


def restore_model(config: Config, checkpoint: Checkpoint, spec: DataSpec, weights: str = "last") -> nn.Module:
    """The network of a run, with weights from its checkpoint; see `Checkpoint`."""
    model = build_model(config, spec.shape, len(spec.classes), trained=False)
    checkpoint.load_into(model, weights)
    return model


def to_device(model: nn.Module, config: Config, device: torch.device) -> nn.Module:
    """The model on the device, in the memory format of the configuration."""
    model = model.to(device)
    if config.train.channels_last:
        # Not by `model.to`, which fails at the five dimensions of a 3D convolution, as in timm's LambdaNets.
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dim() == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return model


def share_weights(config: Config, model: nn.Module, world: World) -> None:
    """Give all processes the same initial weights, and BatchNorm over all of them where that is on."""
    # Other hardware may round initial weights differently.
    world.broadcast(list(model.state_dict().values()))
    if world.size > 1 and config.train.sync_bn:
        synchronise(model, world)


def in_order(choices: dict[str, Choice]) -> list[tuple[str, Choice]]:
    """The tricks in the order that their facts give, then by name, whatever the order of the flags."""
    return sorted(choices.items(), key=lambda item: (item[1].entry.facts.order, item[0]))


def exclusive(choices: dict[str, Choice], fact: str, what: str) -> None:
    """Refuse two tricks that are alternatives: of which this fact holds."""
    names = [name for name, choice in choices.items() if getattr(choice.entry.facts, fact)]
    if len(names) > 1:
        raise BadInput(f"{' and '.join(names)} are two ways to {what}; choose one of them")
