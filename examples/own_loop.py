"""`python -m examples.own_loop`: a training loop in plain PyTorch with the batches of the loader.

By default on the bundled digits, in less than a minute on a CPU. For CIFAR-10:
`--data cifar10 --root /path/to/data --width 32 --batch-size 256 --epochs 10`.
"""

import argparse
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from lib.core.errors import exit_code
from lib.core.registry import models
from lib.loader import Loader, evaluate


def network(loader: Loader, width: int, seed: int) -> nn.Module:
    """A ResNet-9 for the images of the loader; any module from (B, C, H, W) to (B, K) can be used."""
    torch.manual_seed(seed)
    model = models["resnet9"].build(num_classes=len(loader.classes), in_channels=loader.shape[0], width=width)
    return model.to(loader.device, memory_format=torch.channels_last)


def train(
    model: nn.Module, loader: Loader, epochs: int, lr: float = 0.2, log: Callable[[str], None] = print
) -> None:
    """Train with SGD, and report the loss of each epoch to `log`.

    The learning rate rises linearly in the first quarter of the training and then falls to 0.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(4 * (step + 1), 4 / 3 * (steps - step)) / steps
    )
    model.train()
    for epoch in range(epochs):
        total = torch.zeros((), device=loader.device)
        for batch in loader.epoch(epoch):
            loss = F.cross_entropy(model(batch.x), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        log(f"epoch {epoch + 1} of {epochs}: training loss {total.item() / len(loader):.4f}")


def run(argv: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m examples.own_loop", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--data", default="digits", help="the data set (digits)")
    parser.add_argument("--root", help="folder of the data sets (./data)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    parser.add_argument("--width", type=int, default=16, help="channels of the first layer (16)")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step (64)")
    parser.add_argument("--epochs", type=int, default=3, help="length of the training (3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers (0)")
    options = parser.parse_args(argv)

    place = {"root": options.root, "device": options.device}
    loader = Loader(options.data, batch_size=options.batch_size, seed=options.seed, **place)
    print(loader)
    model = network(loader, options.width, options.seed)
    train(model, loader, options.epochs)
    test = evaluate(model, loader.test)
    print(f"test accuracy {test.accuracy:.2f} %, loss {test.loss:.4f}")


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    return exit_code(run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
