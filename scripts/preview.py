"""`python -m scripts.preview --cutout --mixup -o grid.png`: a figure of the augmented images, step by step.

Takes the flags of train.py and draws the first images of an epoch's first batch, exactly as training sees it:
a row for each step of the pipeline, and the targets below the last one.
"""

import sys
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from lib.augment.pipeline import Augmentation, Normalize, OneOf, Step, applied, describe, ordered
from lib.config.cli import parse
from lib.config.flags import value_text
from lib.config.schema import Config
from lib.core.batch import Batch
from lib.core.errors import BadInput, exit_code
from lib.core.files import write_atomic
from lib.core.rng import Rng
from lib.factory import (
    augmenting,
    build_data,
    build_dataset,
    build_device,
    build_normalize,
    build_spec,
    build_steps,
)
from lib.report.image_grid import ImageRow, draw_grid, row_of

from .arguments import Parser, file_path


def run(argv: list[str]) -> int:
    options, rest = _parser().parse_known_args(argv)
    command = parse(rest)
    if command.action != "train":
        raise BadInput(f"--{command.action} is an option of train.py; remove it")
    if options.output.suffix.lower() != ".png":
        raise BadInput(f"--output must end in .png, got {str(options.output)!r}")
    config = command.config()
    for note in config.notes:
        print(f"note: {note}", file=sys.stderr)
    rows, order = preview(config, options.images, options.epoch)
    title = f"{config.chosen['data'].entry.name}, epoch {options.epoch}, seed {config.train.seed}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class name may hold letters that the font lacks
        figure = draw_grid(rows, title)
    try:
        write_atomic(options.output, figure)
    except BadInput as error:
        raise BadInput(f"cannot write {options.output}: {error.__cause__.strerror}") from error
    print(f"batch: {order}\n{options.output}")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m scripts.preview",
        description=__doc__.partition("\n\n")[2],
        epilog="and every setting of train.py: python train.py --help",
    )
    parser.add_argument(
        "-o", "--output", type=file_path, default=Path("preview.png"), help="the PNG to write (preview.png)"
    )
    parser.add_argument("--images", type=int, default=8, help="number of images to draw (8)")
    parser.add_argument("--epoch", type=int, default=0, help="epoch of the batch, from 0 (0)")
    return parser


def preview(config: Config, images: int, epoch: int) -> tuple[list[ImageRow], str]:
    """The rows of the figure, and the order of the steps in one line.

    Raises:
        BadInput: an augmentation cannot take these images, or a batch has fewer of them.
    """
    if not 1 <= images <= config.train.batch_size:
        raise BadInput(f"--images must be from 1 to the batch size {config.train.batch_size}, got {images}")
    if epoch < 0:
        raise BadInput(f"--epoch must be at least 0, got {epoch}")
    dataset, device = build_dataset(config), build_device(config.run.device)
    data, _ = build_data(config, dataset, device)
    steps = ordered(build_steps(config, build_normalize(build_spec(config, dataset), device)))
    number = epoch * data.steps_per_epoch
    batch, rng = data.at(number), Rng(config.train.seed, number, 0)
    with torch.no_grad(), augmenting(tuple(batch.x.shape[1:])):
        done = list(applied(steps, batch, rng))
    columns = _images_of(done[-1][1])[:images]
    rows = [row_of("original", "", batch, columns, dataset.classes)]
    # Figures undo the normalisation, so its row would repeat the one before.
    done = [(step, after) for step, after in done if not isinstance(step.map, Normalize)]
    size = batch.x.shape[-2:]
    for step, after in done:
        classes = dataset.classes if after is done[-1][1] else ()
        name, detail = _label(step, after, rng)
        if after.x.shape[-2:] != size:
            size = after.x.shape[-2:]
            detail += f"; {size[0]}x{size[1]} pixels"
        rows.append(row_of(name, detail, after, columns, classes))
    return rows, describe(steps)


def _images_of(batch: Batch) -> torch.Tensor:
    """The distinct images of a batch, in order."""
    return torch.tensor(list(dict.fromkeys(batch.index.tolist())), device=batch.index.device)


def _label(step: Step, after: Batch, rng: Rng) -> tuple[str, str]:
    """The label of a row: the step's name, then its stage and options."""
    if not isinstance(step.map, OneOf):
        return step.name, _detail(step)
    drawn = step.map.draw(after.epoch, rng.fold(step.name))
    detail = _detail(drawn) if drawn else step.stage.name.lower()
    others = [mix.name for mix in step.map.mixes if mix is not drawn]
    return (
        drawn.name if drawn else "no mix",
        f"{detail}; not drawn: {', '.join(others)}" if others else detail,
    )


def _detail(step: Step) -> str:
    common = {field.name for field in fields(Augmentation)}
    values: dict[str, Any] = {f.name: getattr(step.map, f.name) for f in fields(step.map)}
    options = [
        f"{name.replace('_', ' ')} {value_text(value)}"
        for name, value in values.items()
        if name not in common and not isinstance(value, torch.Tensor)
    ]
    return ": ".join([step.stage.name.lower(), *([", ".join(options)] if options else [])])


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    return exit_code(run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
