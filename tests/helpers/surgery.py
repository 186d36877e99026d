"""Networks with surgeries, on small images."""

import torch
from torch import Tensor, nn

from lib.config.cli import parse
from lib.config.schema import Config
from lib.core.registry import surgeries
from lib.factory import build_model

CPU = torch.device("cpu")
SHAPE = (3, 16, 16)
SMALL = {
    "data.name": "synthetic", "data.size": 40, "data.classes": 10, "data.image_size": 16,
    "train.batch_size": 8, "train.epochs": 1, "schedule.name": "constant",
}  # fmt: skip
# Options that make a model small, or that turn off what a surgery would do a second time.
OPTIONS = {
    "resnet_preact": {"model.depth": 8},
    "cct_2": {"model.drop_path": 0},
    "resnet9": {"model.width": 8},
}


def switch(name: str) -> dict[str, object]:
    """The setting that turns a surgery on, with parts that are smaller than the batch where it splits one."""
    size = surgeries[name].facts.splits
    return {f"surgery.{name}.{size}": 2} if size else {f"surgery.{name}": True}


def config_of(model: str, *names: str, **more: object) -> Config:
    settings = SMALL | {"model.name": model} | OPTIONS.get(model, {})
    for name in names:
        settings |= switch(name)
    return parse([f"{key}={value}" for key, value in (settings | more).items()]).config()


def network(model: str, *names: str, **more: object) -> nn.Module:
    return build_model(config_of(model, *names, **more), SHAPE, 10)


def images(count: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
