"""The first lines of a run on the console: what is about to be trained."""

import shutil
import textwrap

import torch
from torch import nn

from ..augment.pipeline import describe, ordered
from ..config.flags import value_text
from ..config.schema import SECTIONS, Choice, Config
from ..config.sources import flatten
from ..core.errors import BadInput, located
from ..core.registry import SOURCES
from ..engine.step import Run
from ..factory import build_normalize, build_steps, in_order
from ..graph.cost import count_macs

LINES = 12  # that a run usually takes: changes beyond them are left out, as they are in config_diff.yaml


def first_screen(run: Run, config: Config, device: torch.device) -> str:
    """Model, data, device, augmentation, optimizer, schedule, steps and folder of a run, and its changes.

    As wide as the terminal, or 80 columns in a pipe.
    """
    model, data = config.chosen["model"].entry.name, config.chosen["data"].entry.name
    splits = {"training": run.data.split} | run.splits
    images = ", ".join(f"{len(split):,} {name}" for name, split in splits.items() if len(split))
    each, batch = run.data.steps_per_epoch, run.data.batch_size
    rows = {
        "model": f"{model}: {size_text(run.model, run.spec.shape)}",
        "data": f"{data}: {images} images, {len(run.spec.classes)} classes",
        "device": _device(run, config, device),
        "batch": _batch(run, config, device),
        "loss": _loss(config),
        "optimizer": _optimizer(config),
        "schedule": _schedule(config),
        "steps": f"{run.total:,}: {run.epochs:g} epochs of {each:,} batches of {batch:,} images",
    }
    width = max(shutil.get_terminal_size((80, 24)).columns, 40)
    lines = [line for name, text in rows.items() for line in _row(name, text, width)]
    lines.append(f"{'folder':<11}{config.folder()}")  # in one piece, so that it can be copied
    left = LINES - len(lines) - len(lines[-1]) // (width + 1)
    changed = [
        key if value is True else f"{key} {value_text(value)}" for key, value in flatten(config.changed)
    ]
    return "\n".join([*lines, *_row("changed", ", ".join(changed), width, max(1, left))])


def size_text(model: nn.Module, shape: tuple[int, int, int]) -> str:
    """The parameters of a model, and its multiply-accumulates for an image of `shape` (C, H, W)."""
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    part = f" ({trained:,} trained)" if trained < total else ""
    try:
        macs = count_macs(model, shape)
    except Exception as error:
        raise BadInput(
            f"the model cannot take images of {shape}: {located(error, SOURCES / 'models')}"
        ) from error
    return f"{total:,} parameters{part}, {macs:,} MACs for {'x'.join(map(str, shape))}"


def _row(name: str, text: str, width: int, lines: int | None = None) -> list[str]:
    """A name with its text in a second column, of `lines` lines at most; none for an empty text."""
    wrapped = textwrap.wrap(text, width - 11, max_lines=lines, placeholder=" ...", break_on_hyphens=False)
    return [f"{'' if place else name:<11}{line}" for place, line in enumerate(wrapped)]


def _device(run: Run, config: Config, device: torch.device) -> str:
    is_gpu, threads = device.type == "cuda", torch.get_num_threads()
    kind = torch.cuda.get_device_name(device) if is_gpu else f"{threads} thread{'s' * (threads > 1)}"
    processes = f"{run.world.size} processes" if run.world.size > 1 else ""
    compiled = "compiled" if config.train.compile else ""
    return ", ".join(filter(None, [f"{device} ({kind})", run.precision, compiled, processes]))


def _batch(run: Run, config: Config, device: torch.device) -> str:
    """The augmentations in their order, and how many images the selections keep."""
    steps = describe(ordered(build_steps(config, build_normalize(run.spec, device))))
    kept = f" ({run.images} of {run.data.batch_size} images)" if run.selections else ""
    return " > ".join([steps, *config.tricks["select"]]) + kept


def _loss(config: Config) -> str:
    """The loss with its distillations; "" for the usual one alone."""
    loss, distilled = config.chosen["loss"], config.tricks["distill"].values()
    usual = loss.entry.name == SECTIONS["loss"].default and not distilled
    return "" if usual else " in ".join(map(_described, [loss, *distilled]))


def _optimizer(config: Config) -> str:
    """The optimizer, inside its wrappers."""
    wrappers = [choice for _, choice in in_order(config.tricks["wrap"])]
    return " in ".join(map(_described, [config.chosen["optim"], *wrappers]))


def _schedule(config: Config) -> str:
    warmup = config.settings["schedule"].warmup
    length = f"{warmup:g} epochs" if warmup >= 1 else f"{warmup:g} of the budget"
    return (f"warm-up of {length}, then " if warmup else "") + _described(config.chosen["schedule"])


def _described(choice: Choice) -> str:
    """A name with its options, without those that are off."""
    options = [
        f"{key} {value_text(value)}"
        for key, value in choice.options.items()
        if value is not None and value is not False
    ]
    return f"{choice.entry.name} ({', '.join(options)})" if options else choice.entry.name
