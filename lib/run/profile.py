"""A trace of a few steps by torch.profiler: what takes the time of a step."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from ..report.text import aligned

SKIPPED, WARMUP, STEPS = 5, 2, 10  # the first steps allocate, compile and choose kernels
ROWS = 15  # of the table


def traced(
    steps: Iterable[int], folder: Path, device: torch.device, log: Callable[[str], None]
) -> Iterator[int]:
    """The same steps; ten of them are traced into `trace.json.gz`, and their slowest operations logged.

    Tracing only observes: the run trains the same weights as without.
    """
    path, activities = folder / "trace.json.gz", [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if device.type == "cuda" else []
    written = []

    def write(trace: profile) -> None:
        trace.export_chrome_trace(str(path))
        log(f"{_table(trace, device)}\ntrace: {path} (open it in chrome://tracing or ui.perfetto.dev)")
        written.append(path)

    plan = schedule(wait=SKIPPED, warmup=WARMUP, active=STEPS, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write) as trace:
        for step in steps:
            yield step
            trace.step()
    if not written:
        log(f"note: --profile needs more than {SKIPPED + WARMUP} steps, which warm up; there is no trace")


def _table(trace: profile, device: torch.device) -> str:
    """The operations with the most time of their own, on the device and on the CPU."""
    kinds = {device.type: "self_device_time_total"} if device.type == "cuda" else {}
    kinds["cpu"] = "self_cpu_time_total"
    # The rows of whole steps hold what no operation accounts for: Python, and waiting for the device.
    found = [event for event in trace.key_averages() if not event.key.startswith("ProfilerStep")]
    totals = {kind: sum(getattr(e, time) for e in found) or 1 for kind, time in kinds.items()}
    first = next(iter(kinds.values()))
    found.sort(key=lambda event: -getattr(event, first))
    heads = [head for kind in kinds for head in (f"{kind} ms a step", f"{kind} %")]
    rows = [[f"operation ({STEPS} steps)", "calls", *heads]]
    for event in found[:ROWS]:
        row = [event.key[:48], f"{event.count:,}"]
        for kind, time in kinds.items():
            spent = getattr(event, time)  # in microseconds
            row += [f"{spent / 1000 / STEPS:.3f}", f"{100 * spent / totals[kind]:.1f}"]
        rows.append(row)
    return aligned(rows)
