"""`python -m scripts.bench.loader`: images a second of our loaders, beside torchvision's ImageFolder.

Folders are generated: JPEG photographs of 500x375 that become 224x224 by a random resized crop and a flip,
and PNGs of 32x32 with a padded crop and a flip, as of CIFAR. Every row gives normalised float32 batches from
the same files to a consumer that does nothing: whole epochs, the workers' start and end included. The rows
take turns in rounds, so that whatever else the machine does hits all; the medians are compared. The
processor's own time for an image, of all processes together, stands beside: on a shared machine that tells.
`--write` puts the tables in docs/benchmarks.md.
"""

import argparse
import resource
import statistics
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
from lib.core.rng import Rng
from lib.data.files import Files
from lib.data.resident import Resident
from lib.factory import build_dataset, build_normalize, build_steps
from scripts.bench import page as benchmark_page

TITLE = "## Loaders"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # any do
WORKERS = (0, 1, 2)
DISTINCT = 32  # pictures; the other files are copies
KINDS = {  # a folder: size of a picture, its format, and what training does with it
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
    run: Callable[[], int]  # an epoch; gives the number of images
    speeds: list[float] = field(default_factory=list)  # images a second, one of each round
    costs: list[float] = field(default_factory=list)  # ms of processor time for an image

    def measure(self) -> None:
        start, used = time.perf_counter(), processor_seconds()
        images = self.run()
        self.speeds.append(images / (time.perf_counter() - start))
        self.costs.append(1e3 * (processor_seconds() - used) / images)

    @property
    def speed(self) -> float:
        return statistics.median(self.speeds)

    @property
    def cost(self) -> float:
        return statistics.median(self.costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256, help="photographs; eight times as many PNGs")
    parser.add_argument("--batch", type=int, default=64, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--write", action="store_true", help="put the tables in docs/benchmarks.md")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    tables: dict[str, list[Row]] = {}
    for kind, about in KINDS.items():
        images = options.images * (1 if about["suffix"] == "jpg" else 8)
        with tempfile.TemporaryDirectory() as place:
            generate(Path(place), about["size"], about["suffix"], images)
            rows = tables[kind] = list(rows_of(Path(place), about, options.batch))
            for _ in range(options.rounds):
                for row in rows:
                    row.measure()
    rows = [
        {"images": kind, "loader": r.name, "workers": r.workers, "per_second": r.speed, "cpu_ms": r.cost}
        for kind, rows in tables.items()
        for r in rows
    ]
    benchmark_page.publish(page(tables, options), {"rows": rows}, torch.device("cpu"), options.write)


def generate(base: Path, size: tuple[int, int], suffix: str, count: int) -> None:
    """A folder of two classes: smooth patches, as photographs have, and some noise upon them."""
    rng, files = Rng(0, "bench_loader"), []
    (W, H), like = size, torch.empty(0)
    for number in range(DISTINCT):
        coarse = rng.fold(number).uniform(1, 3, 12, 16, like=like)
        smooth = torch.nn.functional.interpolate(coarse, (H, W), mode="bicubic", align_corners=False)[0]
        pixels = smooth * 220 + 20 * rng.fold(number, "noise").uniform(3, H, W, like=like)
        picture = Image.fromarray(pixels.clamp(0, 255).byte().permute(1, 2, 0).numpy().astype(np.uint8))
        path = base / f"{number}.{suffix}"
        picture.save(path, quality=90)
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
    """Our own: squares from the workers, then the batched augmentations here, or nothing."""
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
    """The training images and what is done to a batch of them."""
    config = parse(flags.split()).config()
    dataset = build_dataset(config)
    return dataset.train, pipeline(build_steps(config, build_normalize(config, dataset, torch.device("cpu"))))


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


def processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def page(tables: dict[str, list[Row]], options: argparse.Namespace) -> str:
    """The section of docs/benchmarks.md."""
    about = (
        f"Made by `{benchmark_page.command()}` on {benchmark_page.machine(torch.device('cpu'))}, "
        f"torchvision {torchvision.__version__}: batches of {options.batch} to normalised float32, medians "
        f"of {options.rounds} whole epochs of {options.images} photographs (500x375 to 224x224, random "
        f"resized crop and flip) and of {8 * options.images} PNGs (32x32, padded crop and flip), the start "
        "of the workers included. Ours decode to squares of uint8 in the workers and augment whole batches "
        "in the main process: on a GPU that is the GPU's work, and the row of uint8 squares the rest. "
        "The ratios are to torchvision's with as many workers (to its fastest where there are none): "
        "of images a second, and of the processor's own time for an image."
    )
    lines = [f"{TITLE}\n\n{textwrap.fill(about, 110)}\n"]
    lines.append("| images | loader | workers | images/s | ratio | CPU ms an image | ratio |")
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    for kind, rows in tables.items():
        base = {row.workers: row for row in rows if row.name.startswith("torchvision")}
        base[None] = max(base.values(), key=lambda row: row.speed)
        for row in rows:
            other = base[row.workers]
            lines.append(
                f"| {kind} | {row.name} | {'' if row.workers is None else row.workers} | "
                f"{float(f'{row.speed:.3g}'):,.0f} | {row.speed / other.speed:.2f} | "
                f"{row.cost:.3g} | {row.cost / other.cost:.2f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
