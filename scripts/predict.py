"""`python -m scripts.predict RUN image...`: classify your own images with a trained run.

One line per image: its three likeliest classes with their probabilities. Images may have any size, format and
mode: they are decoded as the images of a folder data set are (lib/data/decoding.py), with the image size and
the crop of the run's evaluation.
"""

import sys

import torch
from torch import Tensor

from lib.core.errors import BadInput, exit_code
from lib.core.files import printable
from lib.core.precision import autocast
from lib.factory.load import TrainedRun, load

from .arguments import Parser, file_path

TOP = 3


@torch.inference_mode()
def predict(run: TrainedRun, network: str, x: Tensor) -> list[tuple[str, float]]:
    """The likeliest classes of a normalised image (C, H, W), with their probabilities in percent."""
    with autocast(run.device, run.precision):
        logits = run.network(network)(x[None])
    p, classes = logits.float().softmax(1)[0].topk(min(TOP, len(run.classes)))
    return [(run.classes[k], 100 * value) for k, value in zip(classes.tolist(), p.tolist(), strict=True)]


def run(argv: list[str]) -> int:
    parser = Parser(prog="python -m scripts.predict", description=__doc__.partition("\n\n")[2])
    parser.add_argument("run", type=file_path, help="a run folder or a checkpoint")
    parser.add_argument("images", type=file_path, nargs="+", metavar="image", help="an image file")
    parser.add_argument(
        "--network", default="last", help="last, or the name of an average such as ema (last)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<number> or mps (auto)")
    options = parser.parse_args(argv)
    trained = load(options.run, device=options.device)
    trained.network(options.network)
    unread = 0
    for path in options.images:
        try:
            guesses = predict(trained, options.network, trained.read(path))
        except BadInput as error:
            unread += 1
            print(f"skipped: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        print(f"{printable(str(path))}: {', '.join(f'{name} {value:.1f} %' for name, value in guesses)}")
    return 2 if unread else 0


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    return exit_code(run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
