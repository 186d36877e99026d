"""`python -m scripts.bench.augment`: images a second of our augmentations, beside those of other libraries.

All rows give normalised float32 images of the same uint8 ones (32x32x3), and are measured one after another
in rounds, so that whatever else the machine does hits them all; the medians are compared. `--write` puts the
tables in docs/benchmarks.md. kornia comes with `pip install -e '.[bench]'`; without it its rows say so.
"""

import argparse
import statistics
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib.augment.pipeline import Normalize, Step, pipeline
from lib.core.batch import Batch
from lib.core.facts import Stage
from lib.core.registry import augmentations
from lib.core.rng import Rng
from scripts.bench import augment_others as others
from scripts.bench import page as benchmark_page

TITLE = "## Augmentation"
MEAN, STD = others.MEAN, others.STD
SETS = (("crop", "flip"), ("crop", "flip", "cutout"), ("crop", "flip", "autoaugment"))


@dataclass
class Row:
    name: str
    set: tuple[str, ...]  # the augmentations, by our names
    run: Callable[[], int] | None  # makes some batches and gives the number of images; None: not installed
    speeds: list[float] = field(default_factory=list)  # images a second, one of each round

    def measure(self) -> None:
        if self.run:
            start = time.perf_counter()
            count = self.run()
            self.speeds.append(count / (time.perf_counter() - start))

    @property
    def speed(self) -> float | None:
        return statistics.median(self.speeds) if self.speeds else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=512, help="images in a batch")
    parser.add_argument("--batches", type=int, default=8, help="batches of a row in a round")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--skip-others", action="store_true", help="only ours")
    parser.add_argument("--write", action="store_true", help="put the tables in docs/benchmarks.md")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    x = images(options.batch * options.batches)
    batches = x.split(options.batch)
    copy = Row("a copy of the batch as float32", (), each(lambda batch, step: batch.float(), batches))
    same = compared(x, batches, options.skip_others)
    alone = [Row(name, (name,), ours((name,), batches)) for name in augmentations.names()]
    rows = [copy, *same, *alone]
    for number in range(options.rounds + 1):
        for row in rows:
            row.measure()
            if number == 0:  # the first round starts workers and allocates memory
                row.speeds.clear()
    numbers = [{"by": row.name, "augmentations": row.set, "images_per_second": row.speed} for row in rows]
    text, cpu = page(copy, same, alone, options), torch.device("cpu")
    benchmark_page.publish(text, {"rows": numbers}, cpu, options.write)


def images(count: int) -> Tensor:
    """(count, 3, 32, 32) uint8: smooth patches, as natural images have, and noise upon them."""
    rng, like = Rng(0, "images"), torch.empty(0)
    smooth = torch.nn.functional.interpolate(rng.uniform(count, 3, 5, 5, like=like), 32, mode="bilinear")
    return (smooth * 230 + 25 * rng.uniform(count, 3, 32, 32, like=like)).to(torch.uint8)


def compared(x: Tensor, batches: tuple[Tensor, ...], skip: bool) -> list[Row]:
    """The same augmentations by different libraries, those of one set together."""
    rows = []
    for names in SETS:
        if all(name in augmentations for name in names):
            rows.append(Row("ours", names, ours(names, batches)))
        if skip:
            continue
        B = len(batches[0])
        rows.append(Row("torchvision PIL, 2 workers", names, others.pil_loader(names, x, B)))
        few = x[: min(len(x), B)]  # image by image takes long
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
    machine = benchmark_page.machine(torch.device("cpu"))
    about = (
        f"Made by `{benchmark_page.command()}` on {machine}, {', '.join(others.versions())}. Batches of "
        f"{options.batch} uint8 images of 32x32x3 to normalised float32; medians of {options.rounds} rounds. "
        "The ratio is to torchvision's PIL pipeline with the same augmentations. Cutout of torchvision v2, "
        "kornia and airbench is an erased square that lies inside; kornia's AutoAugment draws one sub-policy "
        "for a whole batch; airbench crops from a mirrored border, here of one batch at a time."
    )
    lines = [
        f"{TITLE}\n\n{textwrap.fill(about, 110)}\n",
        "| augmentations | by | images/s | ratio |\n|---|---|---:|---:|",
    ]
    for row in [copy, *same]:
        lines.append(f"| {'+'.join(row.set)} | {row.name} | {_cells(row.speed, pil.get(row.set))} |")
    lines += [
        "\nEach of ours alone, normalisation included; the ratio is to the PIL pipeline of crop+flip.\n",
        "| augmentation | images/s | ratio |\n|---|---:|---:|",
    ]
    lines += [f"| {row.name} | {_cells(row.speed, pil.get(SETS[0]))} |" for row in alone]
    return "\n".join(lines) + "\n"


def _cells(speed: float | None, base: float | None) -> str:
    if speed is None:
        return "not installed | "
    return f"{float(f'{speed:.3g}'):,.0f} | {f'{speed / base:.1f}' if base else ''}"


if __name__ == "__main__":
    main()
