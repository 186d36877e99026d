"""`python -m scripts.bench.augment`: throughput of our augmentations compared with those of other libraries.

All rows turn the same uint8 images (32x32x3) into normalised float32; the medians are compared. kornia and
airbench come with `pip install -e '.[bench]'`; without them their rows read "not installed".
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.augment.pipeline import Normalize, Step, pipeline
from lib.core.batch import Batch
from lib.core.errors import exit_code
from lib.core.facts import Stage
from lib.core.registry import augmentations
from lib.core.rng import Rng
from scripts.bench import augment_others as others
from scripts.bench import harness

MEAN, STD = others.MEAN, others.STD
SETS = (("crop", "flip"), ("crop", "flip", "cutout"), ("crop", "flip", "autoaugment"))


@dataclass
class Row:
    name: str
    set: tuple[str, ...]  # the augmentations, by our names
    run: Callable[[], int] | None  # makes some batches and returns the number of images; None: not installed
    speed: float | None = None  # images per second

    def measure(self, number: int) -> float:
        took = harness.timed(self.run)
        return took.result / took.wall


def main() -> None:
    parser = harness.parser(__doc__, batch=512, rounds=5, threads=torch.get_num_threads())
    parser.add_argument("--batches", type=int, default=8, help="batches per row and round; default 8")
    parser.add_argument("--skip-others", action="store_true", help="measure only ours")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    x = images(options.batch * options.batches)
    batches = x.split(options.batch)
    copy = Row("a copy of the batch as float32", (), each(lambda batch, step: batch.float(), batches))
    same = compared(x, batches, options.skip_others)
    alone = [Row(name, (name,), ours((name,), batches)) for name in augmentations.names()]
    rows = [copy, *same, *alone]
    installed = [row for row in rows if row.run]
    works = [row.measure for row in installed]
    # The first round starts workers and allocates memory.
    for row, speeds in zip(installed, harness.in_turns(works, options.rounds, warm_up=1), strict=True):
        row.speed = statistics.median(speeds)
    numbers = [{"by": row.name, "augmentations": row.set, "images_per_second": row.speed} for row in rows]
    harness.publish(page(copy, same, alone, options), {"rows": numbers}, harness.CPU, options.write)


def images(count: int) -> Tensor:
    """(count, 3, 32, 32) uint8: smooth patches, as in natural images, plus noise."""
    rng, like = Rng(0, "images"), torch.empty(0)
    smooth = torch.nn.functional.interpolate(rng.uniform(count, 3, 5, 5, like=like), 32, mode="bilinear")
    return (smooth * 230 + 25 * rng.uniform(count, 3, 32, 32, like=like)).to(torch.uint8)


def compared(x: Tensor, batches: tuple[Tensor, ...], skip: bool) -> list[Row]:
    """The same augmentations by different libraries, grouped by set."""
    rows = []
    for names in SETS:
        if all(name in augmentations for name in names):
            rows.append(Row("ours", names, ours(names, batches)))
        if skip:
            continue
        B = len(batches[0])
        rows.append(Row("torchvision PIL, 2 workers", names, others.pil_loader(names, x, B)))
        few = x[: min(len(x), B)]  # image by image is slow
        rows.append(Row("torchvision v2, image by image", names, others.v2_image_by_image(names, few)))
        batched = others.kornia_batched(names)
        rows.append(Row("kornia, batched", names, batched and each(batched, batches)))
        if "autoaugment" not in names:  # airbench has none
            batched = others.airbench_batched(names)
            rows.append(Row("airbench, batched", names, batched and each(batched, batches)))
    return rows


def ours(names: tuple[str, ...], batches: tuple[Tensor, ...]) -> Callable[[], int]:
    normalize = Normalize(MEAN, STD)
    steps = [Step(name, augmentations[name].facts.stage, augmentations[name].build()) for name in names]
    prepare = pipeline([Step("normalize", Stage.NORMALIZE, normalize), *steps])
    B = len(batches[0])
    y, index = torch.eye(10)[torch.arange(B) % 10], torch.arange(B)
    return each(lambda x, step: prepare(Batch(x, y, index), Rng(0, step, 0)), batches)


def each(work: Callable[[Tensor, int], object], batches: tuple[Tensor, ...]) -> Callable[[], int]:
    @torch.no_grad()
    def run() -> int:
        for step, batch in enumerate(batches):
            work(batch, step)
        return sum(map(len, batches))

    return run


def page(copy: Row, same: list[Row], alone: list[Row], options: argparse.Namespace) -> str:
    """The section of docs/benchmarks.md."""
    pil = {row.set: row.speed for row in same if row.name.startswith("torchvision PIL")}
    about = (
        f", {', '.join(others.versions())}. Batches of {options.batch} uint8 images of 32x32x3 to normalised "
        f"float32; medians of {options.rounds} rounds. The ratio is to torchvision's PIL pipeline with the "
        "same augmentations. Cutout of torchvision v2, kornia and airbench erases a square that lies inside "
        "the image; kornia's AutoAugment draws one sub-policy for a whole batch; airbench crops from a "
        "reflected border, here one batch at a time."
    )
    compared = harness.table(
        ["augmentations", "by", "images/s", "ratio"],
        [("+".join(row.set), row.name, *_cells(row.speed, pil.get(row.set))) for row in (copy, *same)],
        labels=2,
    )
    single = harness.table(
        ["augmentation", "images/s", "ratio"],
        [(row.name, *_cells(row.speed, pil.get(SETS[0]))) for row in alone],
    )
    between = "Each of ours alone, normalisation included; the ratio is to the PIL pipeline of crop+flip."
    return harness.section("## Augmentation", about, harness.CPU, compared, between, single)


def _cells(speed: float | None, base: float | None) -> tuple[str, str]:
    if speed is None:
        return "not installed", ""
    return harness.three_digits(speed), f"{speed / base:.1f}" if base else ""


if __name__ == "__main__":
    sys.exit(exit_code(main))
