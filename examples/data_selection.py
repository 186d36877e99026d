"""`python -m examples.data_selection`: train on the images of lowest confidence, or on random ones?

For each seed a network is trained on all images, which are then ranked by its confidence in their true class.
The same network is trained again on two subsets of equal size: random images, and those of lowest confidence.
Differences are paired: all trainings of a seed have the same initial weights and random numbers.

By default on the bundled digits, which are too easy for a difference. On CIFAR-10, in five core-minutes:
`--data cifar10 --root /path/to/data --fraction 0.2 --width 8 --batch-size 128 --epochs 4`. After such a short
training the network has not learned the easy images yet, and loses much without them. After a full training
(all images, a wide network, tens of epochs) the images of lowest confidence should win by about a point.
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
    """A network trained on the images at these indices only; None is all images."""
    loader.keep(images)
    model = network(loader, width, loader.seed)
    train(model, loader, epochs, log=lambda line: None)
    return model


def confidence(model: nn.Module, images: Images) -> Tensor:
    """(N,) the log probability of each image's true class, without augmentation."""
    # In float64, because the probabilities of easy images are too close to 1 for float32.
    log_p = evaluate(model, images).logits.double().log_softmax(1)
    return log_p.gather(1, images.y.cpu()[:, None])[:, 0]


def accuracies(loader: Loader, fraction: float, width: int, epochs: int) -> list[float]:
    """The test accuracies of one seed, one for each of ROWS."""
    everything = trained(loader, None, width, epochs)
    rank, count = confidence(everything, loader.train).argsort(), round(fraction * len(loader.train))
    at_random = torch.randperm(len(rank), generator=torch.Generator().manual_seed(loader.seed))
    subsets = (at_random[:count], rank[:count])
    models = [everything, *(trained(loader, images, width, epochs) for images in subsets)]
    return [evaluate(model, loader.test).accuracy for model in models]


def table(found: list[list[float]], fraction: float) -> str:
    """The mean accuracies with intervals over seeds, and the paired difference of the last two."""
    rows = [("trained on", "fraction", "accuracy", "95 % interval")]
    for name, values in zip(ROWS, zip(*found, strict=True), strict=True):
        mean, _, low, high = student(values)
        size = 1.0 if name == ROWS[0] else fraction
        rows.append((name, f"{100 * size:.0f} %", number(mean), f"{number(low)} to {number(high)}"))
    _, at_random, least = zip(*found, strict=True)
    gain = paired(least, at_random)
    return (
        f"{aligned(rows)}\nleast confident minus random: {gain.mean:+.2f} points, "
        f"95 % interval {gain.low:+.2f} to {gain.high:+.2f}, n = {len(found)}"
    )


def run(argv: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m examples.data_selection")
    parser.add_argument("--data", default="digits", help="the data set (digits)")
    parser.add_argument("--root", help="folder of the data sets (./data)")
    parser.add_argument(
        "--fraction", type=float, default=1.0, help="fraction of the training images to use at all (1)"
    )
    parser.add_argument("--share", type=float, default=0.6, help="fraction of these in each subset (0.6)")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions, three trainings each (3)")
    parser.add_argument("--width", type=int, default=16, help="channels of the first layer (16)")
    parser.add_argument("--batch-size", type=int, default=64, help="images per step (64)")
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
