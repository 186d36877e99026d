"""`python -m scripts.predict RUN image...`: what a trained run takes your own images for.

One line an image: its three likeliest classes with their probabilities. Images may be of any size, form and
mode; the middle square is resized to the size that the network was trained with. Transparent parts are
shown on white. Of a network that knows grey images only the brightness is used.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from lib.config.cli import Command
from lib.core.errors import BadInput, exit_code, nearest
from lib.core.precision import autocast
from lib.factory.networks import Trained, load_trained

TOP = 3
MODES = {1: "L", 3: "RGB"}  # Pillow's name for images of so many channels


def read(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """An image file as (C, H, W) uint8.

    Raises:
        BadInput: it is no image.
    """
    C, H, W = shape
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits, which Pillow cuts off at 255 instead of scaling them
                image = image.point(lambda level: level / 256).convert("L")
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            # Grey by way of RGB, because some modes cannot be made grey at once.
            image = ImageOps.fit(image.convert("RGB"), (W, H), Image.Resampling.BILINEAR).convert(MODES[C])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow's own message may repeat the path.
        why = getattr(error, "strerror", None) or type(error).__name__
        raise BadInput(f"{path} cannot be read as an image ({why})") from error
    return torch.from_numpy(np.array(image)).view(H, W, C).permute(2, 0, 1)


@torch.inference_mode()
def predict(trained: Trained, network: str, x: Tensor) -> list[tuple[str, float]]:
    """The likeliest classes of an image (C, H, W), with their probabilities in percent."""
    pixels = trained.normalize(x[None].to(trained.device))
    with autocast(trained.device, trained.precision):
        logits = trained.models[network](pixels)
    p, classes = logits.float().softmax(1)[0].topk(min(TOP, len(trained.classes)))
    return [(trained.classes[k], 100 * share) for k, share in zip(classes.tolist(), p.tolist(), strict=True)]


def run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m scripts.predict", description=__doc__.partition("\n\n")[2])
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("images", type=Path, nargs="+", metavar="image", help="an image file")
    parser.add_argument(
        "--network", default="last", help="last, or the name of an average such as ema (last)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<number> or mps (auto)")
    options = parser.parse_args(argv)
    command = Command("evaluate", folder=options.run, pairs=[("run.device", options.device, "--device")])
    trained = load_trained(command.config(), options.run)
    if options.network not in trained.models:
        hint = nearest(options.network, trained.models) or f"it has {', '.join(trained.models)}"
        raise BadInput(f"--network {options.network}: {options.run} has no such network; {hint}")
    if trained.shape[0] not in MODES:
        raise BadInput(f"the networks of {options.run} take images of {trained.shape[0]} channels, no files")
    unread = 0
    for path in options.images:
        try:
            guesses = predict(trained, options.network, read(path, trained.shape))
        except BadInput as error:
            unread += 1
            print(f"skipped: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        print(f"{path}: {', '.join(f'{name} {share:.1f} %' for name, share in guesses)}")
    return 2 if unread else 0


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    return exit_code(run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
