"""Small networks with every kind of layer, and the models that stand for their families."""

import json

import torch
from torch import nn

from lib.config.listing import MACS
from lib.core.registry import models


def macs() -> dict[str, int]:
    """The multiply-accumulates of the models that have been counted, for a 3x32x32 image."""
    return json.loads(MACS.read_text())


def families() -> list[str]:
    """The cheapest model of each module of lib/models."""
    counted = macs()
    by_cost = sorted(models.names(), key=lambda name: counted.get(name, 0), reverse=True)
    return sorted({models[name].module: name for name in by_cost}.values())


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mix = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=2)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.ones(5, 4))
        self.stem, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(Block(), Block())
        self.attention = nn.MultiheadAttention(4, 2)
        self.last_norm, self.head = nn.LayerNorm(4), nn.Linear(4, 3)
