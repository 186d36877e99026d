"""`python -m examples.data_selection`: are images that a network is unsure of worth more than others?

For each seed a network is trained on all images, and these are ranked by its confidence in their true class.
Then the same network is trained anew on a share of them twice: drawn at random, and the least confident. The
differences are paired: two trainings of a seed have the same first weights, steps and draws.

The bundled digits by default, which shows the way and little else: they are too easy. About five core-minutes
on CIFAR-10: `--data cifar10 --root /path/to/data --fraction 0.2 --width 8 --batch-size 128 --epochs 4`. So
short a training has not learned the easy images yet, and without them it loses by far. After a full one (all
images, a wide network, tens of epochs) the least confident are expected to win by about a point.
"""

import argparse
import sys

import torch
from torch import Tensor, nn

from examples.own_loop import network, train
from lib.core.errors import BadInput, exit_code
from lib.loader import Images, Loader, evaluate
from lib.report.statistics import paired, student
from lib.report.text import aligned, number

ROWS = ("all images", "at random", "least confident")


def trained(loader: Loader, images: Tensor | None, width: int, epochs: int) -> nn.Module:
    """A network that has seen these places among the training images only; None is all."""
    loader.keep(images)
    model = network(loader, width, loader.seed)
    train(model, loader, epochs, say=lambda line: None)
    return model


def confidence(model: nn.Module, images: Images) -> Tensor:
    """(N,) the log probability of each image's true class, without augmentation."""
    # In float64: the probabilities of easy images are nearer to 1 than float32 can tell.
    log_p = evaluate(model, images).logits.double().log_softmax(1)
    return log_p.gather(1, images.y.cpu()[:, None])[:, 0]


def accuracies(loader: Loader, share: float, width: int, epochs: int) -> list[float]:
    """The test accuracies of one seed, one for each of `ROWS`."""
    everything = trained(loader, None, width, epochs)
    rank, count = confidence(everything, loader.train).argsort(), round(share * len(loader.train))
    at_random = torch.randperm(len(rank), generator=torch.Generator().manual_seed(loader.seed))
    subsets = (at_random[:count], rank[:count])
    models = [everything, *(trained(loader, images, width, epochs) for images in subsets)]
    return [evaluate(model, loader.test).accuracy for model in models]


def table(found: list[list[float]], share: float) -> str:
    """The rows with their intervals over seeds, and the paired difference of the last two."""
    rows = [("trained on", "share", "accuracy", "95 % interval")]
    for name, values in zip(ROWS, zip(*found, strict=True), strict=True):
        mean, _, low, high = student(values)
        size = 1.0 if name == ROWS[0] else share
        rows.append((name, f"{100 * size:.0f} %", number(mean), f"{number(low)} to {number(high)}"))
    _, at_random, least = zip(*found, strict=True)
    gain = paired(least, at_random)
    return (
        f"{aligned(rows)}\nleast confident less at random: {gain.mean:+.2f} points, "
        f"95 % interval {gain.low:+.2f} to {gain.high:+.2f}, n = {len(found)}"
    )


def run(argv: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m examples.data_selection")
    parser.add_argument("--data", default="digits", help="the data set (digits)")
    parser.add_argument("--root", help="where data lie or are put (./data)")
    parser.add_argument(
        "--fraction", type=float, default=1.0, help="of the training images to begin with (1)"
    )
    parser.add_argument("--share", type=float, default=0.6, help="of them to train on anew (0.6)")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions, three trainings each (3)")
    parser.add_argument("--width", type=int, default=16, help="channels of the first layer (16)")
    parser.add_argument("--batch-size", type=int, default=64, help="images a step (64)")
    parser.add_argument("--epochs", type=int, default=3, help="length of each training (3)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    options = parser.parse_args(argv)
    if not 0 < options.share < 1 or options.seeds < 1:
        raise BadInput("--share must be above 0 and below 1, and --seeds at least 1")

    found = []
    for seed in range(options.seeds):
        loader = Loader(
            options.data,
            batch_size=options.batch_size,
            seed=seed,
            device=options.device,
            root=options.root,
            fraction=options.fraction,
        )
        found.append(accuracies(loader, options.share, options.width, options.epochs))
        print(f"seed {seed}:", ", ".join(f"{n} {a:.2f} %" for n, a in zip(ROWS, found[-1], strict=True)))
    print(table(found, options.share))


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    return exit_code(run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
