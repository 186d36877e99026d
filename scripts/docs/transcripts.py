"""docs/transcripts.md: what commands print, on a terminal of 80 columns and in a pipe."""

import contextlib
import io
import os
import re
import shlex
import shutil
import tempfile
import textwrap
from unittest import mock

import torch

import train
from lib.core.errors import BadInput
from lib.core.registry import PROGRAM
from lib.run import progress
from scripts.docs.page import ROOT, Files

DOC = ROOT / "docs" / "transcripts.md"
RUN = (
    "--dataset digits --model resnet9 --model.width 4 --epochs 1 --fraction 0.5 --cutout --mixup --device cpu"
)
TIMM = (
    "--dataset torch/cifar10 --model resnet20 -b 256 --epochs 100 --opt sgd --lr 0.4 --sched cosine "
    "--warmup-epochs 5 --reprob 0.25 --smoothing 0.1 --model-ema"
)
HYSTS = (
    "dataset.name CIFAR10 model.name resnet_preact model.resnet_preact.depth 20 train.batch_size 128 "
    "train.base_lr 0.1 train.nesterov True scheduler.type cosine scheduler.epochs 160 "
    "augmentation.use_cutout True"
)
COLUMNS, THREADS = 80, 2
HEAD = f"""\
# What commands print

On a terminal of {COLUMNS} columns, longer lines are wrapped. `#` replaces numbers that differ from machine to
machine. `make docs` writes this page.
"""


def files(everything: bool) -> Files:
    """The page. It is made each time, because that takes only seconds."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        parts = {
            "A run on a terminal": _start(terminal=True),
            "The same in a pipe, with a line every 30 seconds of the first epoch": _start(terminal=False),
            "Help": _shown("--help"),
            "Help on one thing": _shown("--help cutout"),
            "A typing error": _shown("--cutuot"),
            "A command of timm": _plan(TIMM),
            "Keys of hysts": _plan(HYSTS),
        }
    sections = [f"## {title}\n\n```console\n{text}```\n" for title, text in parts.items()]
    return {DOC: "\n".join([HEAD, *sections])}


def _shown(line: str) -> str:
    """A command and what it prints."""
    return _transcript(line, "".join(_output(line)))


def _plan(line: str) -> str:
    """The dry run of a line, without the list of all settings."""
    out, _ = _output(line := f"{line} --device cpu --dry-run")
    return _transcript(line, out.partition("\n\n#")[0])


def _start(terminal: bool) -> str:
    """A run of one epoch, with one report of how far it is."""
    with mock.patch.multiple(progress, FIRST=0.0, SHOWN=0.0):  # a report after every step
        out, bar = _output(RUN, terminal)
    shutil.rmtree("runs")
    lines = out.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith(("step ", "epoch ")))
    screen, later = lines[:first], [line for line in lines[first:] if not line.startswith("step ")]
    reports = bar.split("\r") if terminal else lines[first:]
    report = next(line.strip() for line in reports if "images/s" in line)
    return _transcript(RUN, "\n".join([*screen, *map(_without_numbers, [report, *later])]))


def _output(line: str, terminal: bool = False) -> tuple[str, str]:
    """What a command line prints to stdout and stderr; it must end with exit code 0, or 2 after an error."""
    out, err, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
    out.isatty = err.isatty = lambda: terminal
    torch.set_num_threads(THREADS)
    try:
        with (
            mock.patch.dict(os.environ, COLUMNS=str(COLUMNS), LINES="24", NO_COLOR="1"),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = train.main(shlex.split(line))
    finally:
        torch.set_num_threads(threads)
    if code != (2 if "error: " in err.getvalue() else 0):
        raise BadInput(f"{PROGRAM} {line} ended with exit code {code}: {err.getvalue()}")
    return out.getvalue(), err.getvalue()


def _without_numbers(line: str) -> str:
    """A line with # for its numbers, other than those within the names of folders."""
    return re.sub(" +", " ", re.sub(r"(?<![\w.-])\d[\d,.:]*", "#", line))


def _transcript(line: str, text: str) -> str:
    """A command and its output, wrapped as a terminal does."""
    command = textwrap.wrap(
        f"$ {PROGRAM} {line}", COLUMNS - 2, subsequent_indent="    ", break_on_hyphens=False
    )
    rows = [row[place : place + COLUMNS] for row in text.splitlines() for place in _starts(row)]
    return "\n".join([" \\\n".join(command), *rows, ""])


def _starts(row: str) -> range:
    return range(0, max(1, len(row)), COLUMNS)
