"""`python -m scripts.bench.loader`: throughput of our loaders compared with torchvision's ImageFolder.

The folders are generated: JPEG photographs of 500x375, which become 224x224 by a random resized crop and a
flip, and PNGs of 32x32 with a padded crop and a flip, as for CIFAR. Every row turns the same files into
normalised float32 batches without training on them: whole epochs, including the start and end of the workers.
The medians of the rounds are compared, of images per second and of the processor time per image in all
processes, which is the better measure on a shared machine.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from lib.augment.pipeline import pipeline
from lib.config.cli import parse
from lib.core.batch import Batch
from lib.core.errors import exit_code
from lib.core.rng import Rng
from lib.data.files import Files
from lib.data.resident import Resident
from lib.factory import build_dataset, build_normalize, build_spec, build_steps
from scripts.bench import harness

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # any values would do
WORKERS = (0, 1, 2)
DISTINCT = 32  # images; the other files are copies
KINDS = {  # of folders: size of the images, format, and transforms of training
    "500x375 JPEG to 224x224": {
        "size": (500, 375),
        "suffix": "jpg",
        "flags": "--image-size 224 --train-size 256 --no-crop --random-resized-crop-size 224",
        "theirs": transforms.RandomResizedCrop(224),
    },
    "32x32 PNG": {
        "size": (32, 32),
        "suffix": "png",
        "flags": "--image-size 32",
        "theirs": transforms.RandomCrop(32, padding=4),
    },
}


@dataclass
class Row:
    name: str
    workers: int | None  # None: nothing is read from files
    run: Callable[[], int]  # reads an epoch; returns the number of images
    speed: float = 0.0  # images per second
    cost: float = 0.0  # ms of processor time per image

    def measure(self, number: int) -> tuple[float, float]:
        images, wall, processor = harness.timed(self.run)
        return images / wall, 1e3 * processor / images


def main() -> None:
    parser = harness.parser(__doc__, batch=64, rounds=3, threads=torch.get_num_threads())
    parser.add_argument("--images", type=int, default=256, help="photographs; eight times as many PNGs")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    tables: dict[str, list[Row]] = {}
    for kind, about in KINDS.items():
        images = options.images * (1 if about["suffix"] == "jpg" else 8)
        with tempfile.TemporaryDirectory() as place:
            generate(Path(place), about["size"], about["suffix"], images)
            rows = tables[kind] = list(rows_of(Path(place), about, options.batch))
            works = [row.measure for row in rows]
            for row, rounds in zip(rows, harness.in_turns(works, options.rounds, warm_up=0), strict=True):
                row.speed, row.cost = map(statistics.median, zip(*rounds, strict=True))
    rows = [
        {"images": kind, "loader": r.name, "workers": r.workers, "per_second": r.speed, "cpu_ms": r.cost}
        for kind, rows in tables.items()
        for r in rows
    ]
    harness.publish(page(tables, options), {"rows": rows}, harness.CPU, options.write)


def generate(base: Path, size: tuple[int, int], suffix: str, count: int) -> None:
    """Write a folder of two classes: smooth patches, as in photographs, plus noise."""
    rng, files = Rng(0, "bench_loader"), []
    (W, H), like = size, torch.empty(0)
    for number in range(DISTINCT):
        coarse = rng.fold(number).uniform(1, 3, 12, 16, like=like)
        smooth = torch.nn.functional.interpolate(coarse, (H, W), mode="bicubic", align_corners=False)[0]
        pixels = smooth * 220 + 20 * rng.fold(number, "noise").uniform(3, H, W, like=like)
        image = Image.fromarray(pixels.clamp(0, 255).byte().permute(1, 2, 0).numpy().astype(np.uint8))
        path = base / f"{number}.{suffix}"
        image.save(path, quality=90)
        files.append(path.read_bytes())
        path.unlink()
    for part, images in (("train", count), ("val", 2)):
        for number in range(images):
            path = base / part / f"class{number % 2}" / f"{number}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[number % DISTINCT])


def rows_of(base: Path, about: dict, batch: int) -> Iterator[Row]:
    small = about["suffix"] == "png"
    flags = f"--dataset folder:{base} {about['flags']} --batch-size {batch}"
    for workers in WORKERS:
        yield Row("ours, streamed", workers, streamed(f"{flags} --stream true --workers {workers}", batch))
        if not small:
            raw = streamed(f"{flags} --stream true --workers {workers}", batch, augment=False)
            yield Row("ours, streamed, uint8 squares only", workers, raw)
        yield Row("torchvision, ImageFolder", workers, theirs(base, about["theirs"], batch, workers))
    if small:
        yield Row("ours, resident", None, resident(f"{flags} --stream false", batch))


def streamed(flags: str, batch: int, augment: bool = True) -> Callable[[], int]:
    """Ours: squares from the workers, then the batched augmentations in this process."""
    split, prepare = _ours(flags)
    assert isinstance(split, Files)

    @torch.no_grad()
    def epoch() -> int:
        order = Rng(0, "order", 0).permutation(len(split))
        parts = order[: len(split) // batch * batch].split(batch)
        images = 0
        for step, x in enumerate(split.read(parts, split.train_crop)):
            if augment:
                _use(prepare(Batch(x, torch.eye(2)[split.y[parts[step]]], parts[step]), Rng(0, step, 0)).x)
            images += len(x)
        return images

    return epoch


def resident(flags: str, batch: int) -> Callable[[], int]:
    split, prepare = _ours(flags)
    data = Resident(split, 2, batch, 0)

    @torch.no_grad()
    def epoch() -> int:
        for step in range(data.steps_per_epoch):
            _use(prepare(data.at(step), Rng(0, step, 0)).x)
        return data.steps_per_epoch * batch

    return epoch


def _ours(flags: str) -> tuple:
    """The training images and the pipeline of a batch."""
    config = parse(flags.split()).config()
    dataset = build_dataset(config)
    normalize = build_normalize(build_spec(config, dataset), torch.device("cpu"))
    return dataset.train, pipeline(build_steps(config, normalize))


def theirs(base: Path, crop: Callable, batch: int, workers: int) -> Callable[[], int]:
    """torchvision's PIL transforms, image by image in the workers."""
    chain = [crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    data = ImageFolder(str(base / "train"), transforms.Compose(chain))
    loader = DataLoader(data, batch, shuffle=True, drop_last=True, num_workers=workers)

    def epoch() -> int:
        images = 0
        for x, _ in loader:
            _use(x)
            images += len(x)
        return images

    return epoch


def _use(x: Tensor) -> None:
    assert x.dtype == torch.float32


def page(tables: dict[str, list[Row]], options: argparse.Namespace) -> str:
    """The section of docs/benchmarks.md."""
    about = (
        f", torchvision {torchvision.__version__}: batches of {options.batch} to normalised float32, medians "
        f"of {options.rounds} whole epochs of {options.images} photographs (500x375 to 224x224, random "
        f"resized crop and flip) and of {8 * options.images} PNGs (32x32, padded crop and flip), including "
        "the start of the workers. Ours decode to uint8 squares in the workers and augment whole batches in "
        "the main process; with a GPU the augmentation runs there, and the row of uint8 squares is the rest. "
        "The ratios of images per second and of processor time per image are to torchvision with "
        "as many workers (to its fastest row for the resident loader)."
    )
    cells = []
    for kind, rows in tables.items():
        base = {row.workers: row for row in rows if row.name.startswith("torchvision")}
        base[None] = max(base.values(), key=lambda row: row.speed)
        for row in rows:
            other, workers = base[row.workers], "" if row.workers is None else row.workers
            speed = harness.three_digits(row.speed), f"{row.speed / other.speed:.2f}"
            cells.append((kind, row.name, workers, *speed, f"{row.cost:.3g}", f"{row.cost / other.cost:.2f}"))
    heads = ["images", "loader", "workers", "images/s", "ratio", "CPU ms per image", "ratio"]
    return harness.section("## Loaders", about, harness.CPU, harness.table(heads, cells, labels=2))


if __name__ == "__main__":
    sys.exit(exit_code(main))
