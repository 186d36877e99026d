"""Conversions of models and their initial weights."""

import re

from ...core.registry import initialisations, models
from .meaning import Conversion, Given, Pairs, given_as

# The models that another project builds from a family's name and options, with its defaults.
FAMILIES: dict[str, tuple[str, dict[str, int]]] = {
    "resnet": ("resnet{depth}", {"depth": 110}),
    "wrn": ("wrn_{depth}_{widening_factor}", {"depth": 28, "widening_factor": 10}),
    "densenet": ("densenet_bc_{depth}_{growth_rate}", {"depth": 100, "growth_rate": 12}),
    "pyramidnet": ("pyramidnet{depth}_a{alpha}_bottleneck", {"depth": 272, "alpha": 200}),
    "resnext": (
        "resnext{depth}_{cardinality}x{base_channels}d",
        {"depth": 29, "cardinality": 8, "base_channels": 4},
    ),
    "shake_shake": ("shake_resnet{depth}_2x{initial_channels}d", {"depth": 26, "initial_channels": 96}),
    "se_resnet_preact": ("se_resnet_preact{depth}", {"depth": 110}),
}


def model(value: str, given: Given) -> Pairs:
    """`cifar10_<model>` names a data set too; families get their size from options."""
    if found := re.fullmatch(r"(cifar100?)_(.+)", value):
        data, name = found.groups()
        # Those networks project in their shortcuts.
        shortcut = [("model.shortcut", "B")] if re.fullmatch(r"resnet\d+", name) else []
        return [("model.name", name), ("data.name", data), *shortcut]
    if value in FAMILIES and (value not in models or any(key.startswith(f"model.{value}.") for key in given)):
        form, sizes = FAMILIES[value]
        sizes = {size: given.get(f"model.{value}.{size}", usual) for size, usual in sizes.items()}
        return [("model.name", form.format(**sizes))]
    return [("model.name", value)]


def size_of_model(value: int, given: Given) -> Pairs:
    """Part of the name of the model."""
    family = given_as(given, "model.name", "model")
    if family not in FAMILIES:
        raise ValueError(f"the model's name states its size, as in wrn_28_{value}: --model NAME")
    return model(str(family), given)


def model_option(*names: str, otherwise: str) -> Conversion:
    """The option of the model that has one of these names."""

    def convert(value: float, given: Given) -> Pairs:
        named = models[str(given_as(given, "model.name", "model") or "wideresnet")]
        for name in names:
            if name in named.fields:
                return [(f"model.{name}", value)]
        if not value:
            return []
        raise ValueError(f"{named.name} has no such option; {otherwise}")

    convert.__doc__ = (
        f"{' or '.join(f'`--model.{name}`' for name in names)}, by the model. Otherwise: {otherwise}."
    )
    return convert


def init(value: tuple[str, ...], given: Given) -> Pairs:
    """`--init kaiming`, `--init kaiming,zero_gamma`; `default` are the weights of the model's authors."""
    return [(f"init.{initialisations[name].name}", True) for name in value if name != "default"]


def init_mode(value: str, given: Given) -> Pairs:
    """`--init kaiming` or `--init xavier`, with the mode and the distribution."""
    kind, _, mode = value.partition("_")
    if kind == "kaiming" and mode in ("fan_in", "fan_out"):
        return [("init.kaiming.mode", mode)]
    if value == "orthogonal":
        return [("init.orthogonal", True)]
    if kind == "xavier" and mode in ("", "uniform", "normal"):
        return [("init.xavier.distribution", mode)] if mode else [("init.xavier", True)]
    raise ValueError(
        f"{value!r} has no counterpart; write --init kaiming, --init xavier or --init orthogonal"
    )
