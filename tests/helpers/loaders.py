"""A small loader, and its batches."""

import torch
from torch import Tensor

from lib.core.batch import Batch
from lib.loader import Loader

DATA = {"size": 26, "classes": 4, "image_size": 16}  # two images fill no batch of 8


def loader_of(**settings) -> Loader:
    usual = {"batch_size": 8, "seed": 3, "device": "cpu", "epochs": 2, **DATA}
    return Loader("synthetic", **usual | settings)


def batches(loader: Loader, *epochs: int) -> list[Batch]:
    return [batch for epoch in epochs for batch in loader.epoch(epoch)]


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, field), getattr(other, field)) for field in ("x", "y", "index"))


def all_same(ones: list[Batch], others: list[Batch]) -> bool:
    return len(ones) == len(others) > 0 and all(map(same, ones, others))


def places(loader: Loader, *epochs: int) -> Tensor:
    return torch.cat([batch.index for batch in batches(loader, *epochs)])
