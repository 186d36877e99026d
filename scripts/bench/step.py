"""`python -m scripts.bench.step`: our training step beside a bare loop of the same model and optimizer.

The bare loop has one batch ready, normalised, on the device: forward, loss, backward, step. Ours draws,
crops, flips and normalises each batch and sets the rate. The two alternate step by step, so that whatever
else the machine does hits both; the medians are compared. `--write` puts the table in docs/benchmarks.md.
"""

import argparse
import statistics
import textwrap
import time

import torch
import torch.nn.functional as F

from lib.config.cli import parse
from lib.core.precision import autocast
from lib.engine.step import Run, train_step
from lib.factory import build, build_device
from scripts.bench import page as benchmark_page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="resnet20,wrn_16_2,resnet9", help="names, with commas between")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--steps", type=int, default=15, help="measured steps of each")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", action="store_true", help="put the table in docs/benchmarks.md")
    options = parser.parse_args()

    device, B = build_device(options.device), options.batch
    about = (
        f"Made by `{benchmark_page.command()}` on {benchmark_page.machine(device)}: batches of {B} images of "
        f"32x32x3, {options.precision}, channels-last. A bare loop has one batch ready and does nothing but "
        "forward, loss, backward and SGD; ours draws, crops, flips and normalises every batch. Their steps "
        f"take turns; medians of {options.steps}."
    )
    lines = [
        f"## A step\n\n{textwrap.fill(about, 110)}\n",
        "| model | bare, ms | ours, ms | ratio | images/s |\n|---|---:|---:|---:|---:|",
    ]
    rows = []
    for name in options.models.split(","):
        bare, ours = measure(name, B, options.steps, options.precision, device)
        rows.append({"model": name, "bare": bare, "ours": ours, "ratio": ours / bare})
        lines.append(f"| {name} | {bare * 1e3:.1f} | {ours * 1e3:.1f} | {ours / bare:.3f} | {B / ours:.0f} |")
    benchmark_page.publish("\n".join(lines) + "\n", {"rows": rows}, device, options.write)


def measure(name: str, batch: int, steps: int, precision: str, device: torch.device) -> tuple[float, float]:
    """Median seconds of a bare step and of ours."""
    line = f"--model {name} --dataset synthetic --data.size 4096 --bs {batch} --precision {precision}"
    config = parse(line.split()).config()
    run, other = (build(config, device, print) for _ in range(2))
    x = run.normalize(run.data.at(0).x)
    y = run.data.at(0).y.argmax(1)
    bare, ours = [], []
    for step in range(steps + 2):
        bare.append(_timed(device, lambda: _bare_step(other, x, y, precision)))
        ours.append(_timed(device, lambda step=step: train_step(run, step)))
    bare, ours = bare[2:], ours[2:]  # the first steps allocate memory and choose kernels
    return statistics.median(bare), statistics.median(ours)


def _bare_step(run: Run, x: torch.Tensor, y: torch.Tensor, precision: str) -> None:
    run.optimizer.zero_grad(set_to_none=True)
    with autocast(x.device, precision):
        logits = run.model(x)
    F.cross_entropy(logits.float(), y).backward()
    run.optimizer.step()


def _timed(device: torch.device, work) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
