"""The networks of the packing benchmark that train as one by torch.func.vmap."""

from pathlib import Path

import torch

from lib.config.cli import parse
from lib.engine.step import train_step
from lib.factory import build
from scripts.bench.vmapped import vmapped

CPU = torch.device("cpu")


def test_networks_in_one_vmap_learn_what_each_learns_alone(tiny):
    words = f"--config {Path(tiny)} --lr 0.001 --seed"  # small: rounding errors grow with the learning rate
    runs = [build(parse([*words.split(), str(seed)]).config(), CPU, print) for seed in range(3)]
    step, weights = vmapped(runs)
    losses = [step(number) for number in range(3)][-1]
    for seed, run in enumerate(runs):
        expected = [train_step(run, number) for number in range(3)][-1]
        torch.testing.assert_close(losses[seed], expected, rtol=1e-4, atol=0)
        for name, weight in run.model.named_parameters():
            torch.testing.assert_close(weights[name][seed], weight.detach(), rtol=1e-4, atol=1e-6)
