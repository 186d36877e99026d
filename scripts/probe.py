"""`python -m scripts.probe RUN --dataset cifar100`: classify a data set by the features of a trained run.

Two classifiers of frozen penultimate features are fitted on the training images and evaluated on the test
images: k nearest neighbours by cosine similarity, with votes of exp(similarity / temperature) (Wu et al.
2018, arXiv:1805.01978, section 3.4; DINO: Caron et al. 2021, arXiv:2104.14294, appendix F.1), and a linear
probe: logistic regression, with the L2 penalty that is best on a held-out tenth of the training images.

Images of another size are resized to that of the run, and grey ones repeated in its channels.
"""

import argparse
import json
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import Loader
from lib.core.contracts import Positive
from lib.core.errors import BadInput, exit_code, where
from lib.core.files import write_atomic
from lib.data.base import Split, hold_out
from lib.data.images import Images
from lib.engine.evaluate import BATCH
from lib.factory.load import TrainedRun, load

from .arguments import Parser, file_path, within

PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
HELD_OUT = 0.1  # fraction of the training images that selects the penalty
VOTES = 1000  # images whose neighbours are found together


def features(run: TrainedRun, network: str, images: Images) -> tuple[Tensor, Tensor]:
    """The features (N, D) of the images of any data set, and their classes (N,), on the device of the run."""
    channels, height, width = run.data.shape

    def fit(pixels: Tensor) -> Tensor:
        """Pixels (B, C, H, W) with the shape of the run's images."""
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, channels, -1, -1)
        if pixels.shape[1] != channels:
            raise BadInput(f"the images have {pixels.shape[1]} channels, but the network takes {channels}")
        if pixels.shape[2:] == (height, width):
            return pixels
        x = F.interpolate(pixels.float(), (height, width), mode="bilinear", antialias=True)
        return x.round().to(torch.uint8)

    parts = images.split.read(slice(start, start + BATCH) for start in range(0, len(images), BATCH))
    return torch.cat([run.features(run.normalize(fit(pixels)), network) for pixels in parts]), images.y


def nearest_neighbours(x: Tensor, y: Tensor, queries: Tensor, k: int, temperature: float) -> Tensor:
    """The classes (Q,) of `queries` (Q, D) by the votes of their k nearest neighbours in x (N, D), y (N,)."""
    x, num_classes, found = F.normalize(x), int(y.max()) + 1, []
    for part in F.normalize(queries).split(VOTES):
        similarity, place = (part @ x.T).topk(k)
        # Relative to the nearest neighbour: the same vote, and exp cannot overflow at a low temperature.
        weight = ((similarity - similarity[:, :1]) / temperature).exp()
        found.append(torch.zeros(len(part), num_classes, device=x.device).scatter_add_(1, y[place], weight))
    return torch.cat(found).argmax(1)


def logistic_regression(x: Tensor, y: Tensor, num_classes: int, penalty: float) -> nn.Linear:
    """The minimiser of mean cross-entropy + penalty / 2 |W|^2, by L-BFGS in float64.

    Args:
        x: (N, D) features, best with mean 0 and variance 1.
        y: (N,) classes.
    """
    x = x.double()
    layer = nn.Linear(x.shape[1], num_classes, device=x.device, dtype=x.dtype)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=200, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(x), y) + penalty / 2 * layer.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return layer


def linear_probe(x: Tensor, y: Tensor, queries: Tensor, num_classes: int) -> tuple[Tensor, float]:
    """The classes (Q,) of `queries` by logistic regression on x (N, D), y (N,), and its penalty."""
    mean, std = x.mean(0), x.std(0).clamp(min=1e-6)
    x, queries = (x - mean) / std, (queries - mean) / std
    count = max(round(HELD_OUT * len(y)), num_classes)
    fitted, held_out = hold_out(Split(x, y), count, num_classes)

    def accuracy(penalty: float) -> float:
        layer = logistic_regression(fitted.x, fitted.y, num_classes, penalty)
        return (layer(held_out.x.double()).argmax(1) == held_out.y).double().mean().item()

    penalty = max(PENALTIES, key=accuracy)
    layer = logistic_regression(x, y, num_classes, penalty)
    return layer(queries.double()).argmax(1), penalty


def probe(options: argparse.Namespace) -> None:
    run = load(options.run, device=options.device, root=options.root)
    run.network(options.network)
    name = options.dataset or run.config.chosen["data"].entry.name
    if options.dataset:
        loader = Loader(name, augment=[], batch_size=1, device=run.device, root=options.root)
        train, test, classes = loader.train, loader.test, len(loader.classes)
    else:
        train, test, classes = run.images["train"], run.images["test"], len(run.classes)
    if not 1 <= options.k <= len(train):
        raise BadInput(f"-k must be from 1 to the {len(train):,} training images, got {options.k}")
    (x, y), (queries, truth) = (features(run, options.network, part) for part in (train, test))
    near = nearest_neighbours(x, y, queries, options.k, options.temperature)
    with where(name):  # too few images to hold some out
        linear, penalty = linear_probe(x, y, queries, classes)
    knn_accuracy, linear_accuracy = (
        100 * (guess == truth).double().mean().item() for guess in (near, linear)
    )
    record = {
        "run": str(options.run),
        "network": options.network,
        "dataset": name,
        "features": x.shape[1],
        "train_images": len(train),
        "test_images": len(test),
        "k": options.k,
        "temperature": options.temperature,
        "knn_accuracy": knn_accuracy,
        "penalty": penalty,
        "linear_accuracy": linear_accuracy,
    }
    if options.output:
        write_atomic(options.output, json.dumps(record, indent=1) + "\n")
    print(f"{name}: {x.shape[1]} features of {len(train):,} training and {len(test):,} test images")
    print(f"{options.k} nearest neighbours  {knn_accuracy:.2f} %  (temperature {options.temperature:g})")
    print(f"linear probe         {linear_accuracy:.2f} %  (L2 penalty {penalty:g})")


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    parser = Parser(prog="python -m scripts.probe", description=__doc__.partition("\n\n")[2])
    parser.add_argument("run", type=file_path, help="a run folder or a checkpoint")
    parser.add_argument("--dataset", help="the data set; by default that of the run")
    parser.add_argument(
        "--network", default="last", help="last, or the name of an average such as ema (last)"
    )
    parser.add_argument("-k", type=int, default=20, help="number of neighbours (20, as in DINO)")
    parser.add_argument("--temperature", type=within(Positive), default=0.07, help="of the votes (0.07)")
    parser.add_argument("--root", type=file_path, help="folder of the data sets; by default that of the run")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<number> or mps (auto)")
    parser.add_argument("-o", "--output", type=file_path, metavar="FILE", help="write the results as JSON")
    return exit_code(probe, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
