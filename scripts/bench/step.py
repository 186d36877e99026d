"""`python -m scripts.bench.step`: our training step compared with a bare loop of the same network.

The bare loop has one normalised batch ready on the device: forward, loss, backward, step. Ours draws, crops,
flips and normalises each batch and sets the learning rate. The two alternate step by step, and their medians
are compared.
"""

import argparse
import statistics
import sys

import torch
import torch.nn.functional as F

from lib.config.cli import parse
from lib.core.errors import exit_code
from lib.core.precision import autocast
from lib.engine.step import Run, train_step
from lib.factory import build, build_device
from scripts.bench import harness


def main() -> None:
    options = harness.parser(
        __doc__, models="resnet20,wrn_16_2,resnet9", batch=128, steps=15, precision="fp32", device="auto"
    ).parse_args()
    device, rows = build_device(options.device), []
    for name in options.models.split(","):
        bare, ours = measure(name, options, device)
        rows.append({"model": name, "bare": bare, "ours": ours, "ratio": ours / bare})
    harness.publish(page(rows, options, device), {"rows": rows}, device, options.write)


def measure(name: str, options: argparse.Namespace, device: torch.device) -> list[float]:
    """Median seconds of a bare step and of ours."""
    line = f"--model {name} --dataset synthetic --data.size 4096 --bs {options.batch}"
    config = parse([*line.split(), "--precision", options.precision]).config()
    run, bare = (build(config, device, print) for _ in range(2))
    batch = run.data.at(0)
    x, y = run.normalize(batch.x), batch.y.argmax(1)
    works = [
        lambda step: harness.timed(lambda: bare_step(bare, x, y, options.precision), device).wall,
        lambda step: harness.timed(lambda: train_step(run, step), device).wall,
    ]
    return [statistics.median(seconds) for seconds in harness.in_turns(works, options.steps)]


def bare_step(run: Run, x: torch.Tensor, y: torch.Tensor, precision: str) -> None:
    run.optimizer.zero_grad(set_to_none=True)
    with autocast(x.device, precision):
        logits = run.model(x)
    F.cross_entropy(logits.float(), y).backward()
    run.optimizer.step()


def page(rows: list[dict], options: argparse.Namespace, device: torch.device) -> str:
    """The section of docs/benchmarks.md."""
    about = (
        f": batches of {options.batch} images of 32x32x3, {options.precision}, channels-last. The bare loop "
        "has one batch ready and runs only forward, loss, backward and SGD; ours also draws, crops, flips "
        f"and normalises every batch. Their steps alternate; medians of {options.steps}."
    )
    cells = [
        (
            row["model"],
            *(f"{1e3 * row[key]:.1f}" for key in ("bare", "ours")),
            f"{row['ratio']:.3f}",
            f"{options.batch / row['ours']:.0f}",
        )
        for row in rows
    ]
    table = harness.table(["model", "bare, ms", "ours, ms", "ratio", "images/s"], cells)
    return harness.section("## A step", about, device, table)


if __name__ == "__main__":
    sys.exit(exit_code(main))
