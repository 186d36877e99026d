"""The harness of the benchmarks: options, timing, tables, a line of JSON, sections of docs/benchmarks.md."""

import argparse
import json
import re
import resource
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lib.core.dist import world
from lib.core.files import write_atomic
from lib.store.environment import environment

from ..arguments import Parser

DOC = Path(__file__).parents[2] / "docs" / "benchmarks.md"
CPU = torch.device("cpu")
torch.backends.cudnn.benchmark = True  # as `lib.factory.process_of` has it in training
WARM_UP = 2  # the first steps allocate memory and choose kernels
COLUMNS = 110  # line length of the page


def _count(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


OPTIONS: dict[str, dict[str, Any]] = {
    "models": {"help": "comma-separated names of models"},
    "batch": {"type": _count, "help": "images per batch"},
    "steps": {"type": _count, "help": "measured steps (per round, if there are rounds)"},
    "rounds": {"type": _count, "help": "measured rounds"},
    "threads": {"type": _count, "help": "threads of torch"},
    "precision": {"choices": ("fp32", "bf16", "fp16"), "help": "precision of the forward pass"},
    "device": {"help": "cpu, cuda, cuda:<index> or auto"},
}


def parser(doc: str, **defaults: Any) -> Parser:
    """A parser of --write and of those common options that have a default here."""
    made = Parser(description=doc.splitlines()[0])
    for name, default in defaults.items():
        text = f"{OPTIONS[name]['help']}; default {default}"
        made.add_argument(f"--{name}", default=default, **OPTIONS[name] | {"help": text})
    made.add_argument("--write", action="store_true", help="update the section of docs/benchmarks.md")
    return made


class Timed(NamedTuple):
    result: Any
    wall: float  # seconds
    processor: float  # seconds, of this process and of its children that have ended


def timed(work: Callable[[], Any], device: torch.device = CPU) -> Timed:
    """The result and the time of a call, including its work on the GPU."""
    wall, processor = time.perf_counter(), _processor_seconds()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Timed(result, time.perf_counter() - wall, _processor_seconds() - processor)


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def in_turns(
    works: Sequence[Callable[[int], Any]],
    rounds: int,
    warm_up: int = WARM_UP,
    is_reversed: Callable[[int], bool] = lambda number: False,
) -> list[list[Any]]:
    """The results of each work in each round, so that other load on the machine affects all works alike.

    Args:
        works: get the number of the round.
        warm_up: the first rounds, in addition to `rounds`; their results are dropped.
        is_reversed: whether a round takes the works in reverse order.
    """
    results: list[list[Any]] = [[] for _ in works]
    for number in range(warm_up + rounds):
        for work, kept in list(zip(works, results, strict=True))[:: -1 if is_reversed(number) else 1]:
            kept.append(work(number))
    return [kept[warm_up:] for kept in results]


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def three_digits(value: float) -> str:
    """Rounded to three significant digits, with thousands separators."""
    return f"{float(f'{value:.3g}'):,.0f}"


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], labels: int = 1) -> str:
    """A Markdown table with `labels` columns of text, then columns of numbers."""
    rule = "---|" * labels + "---:|" * (len(heads) - labels)
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], f"|{rule}", *lines[1:]])


def section(title: str, about: str, device: torch.device, *blocks: str) -> str:
    """A section of the page.

    Args:
        title: such as `## Tricks`.
        about: continues the sentence "Made by <command> on <machine>".
        device: the device of the measurement.
        blocks: tables and paragraphs.
    """
    about = textwrap.fill(f"Made by `{command()}` on {machine(device)}{about}", COLUMNS)
    return "\n\n".join([title, about, *blocks]) + "\n"


def command() -> str:
    """The command line of this benchmark, as a user would type it."""
    size = world().size
    start = ["torchrun", "--nproc-per-node", str(size)] if size > 1 else ["python"]
    return shlex.join([*start, "-m", f"scripts.bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]])


def machine(device: torch.device) -> str:
    """Processor or GPU, version of torch and number of threads."""
    known = environment(device)
    name = f"{known['cpu']}, {known['cores']} cores" if known["device"] == "cpu" else known["device"]
    allocator = f", GLIBC_TUNABLES={known['glibc_tunables']}" if known["glibc_tunables"] else ""
    return f"{name}, torch {known['packages']['torch']} with {known['threads']} threads{allocator}"


def publish(text: str, numbers: dict[str, Any], device: torch.device, write: bool) -> None:
    """Print a section and a line of JSON with its numbers and the environment; `write` updates the page."""
    print(text)
    print(json.dumps({"benchmark": command(), **numbers, "environment": environment(device)}))
    if write:
        write_section(text)


def read_section(title: str) -> str:
    """The section of the page with a title such as `## Tricks`, title included; "" if there is none."""
    return _split(title)[1]


def write_section(text: str) -> None:
    """Replace the section of the page that has the same title, the first line of `text`, or append it."""
    before, _, after = _split(text.partition("\n")[0])
    parts = [part.strip() for part in (before, text, after)]
    write_atomic(DOC, "\n\n".join(part for part in parts if part) + "\n")


def _split(title: str) -> tuple[str, str, str]:
    """The page before a section, the section, and the page after it."""
    text = DOC.read_text() if DOC.exists() else "# Benchmarks\n"
    found = re.search(rf"^{re.escape(title)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return (text[: found.start()], found[0], text[found.end() :]) if found else (text, "", "")
