"""What the flags and keys of older CIFAR projects mean here, so that their commands run unchanged."""

from collections.abc import Callable
from typing import Any

from ..core.fields import coerce
from ..core.registry import initialisations
from .compose import Path

SECTION_NAMES = {
    "dataset": "data",
    "augmentation": "augment",
    "optimizer": "optim",
    "scheduler": "schedule",
}

ALIASES: dict[str, Path] = {
    "bs": ("train", "batch_size"),
    "learning_rate": ("optim", "lr"),
    "gradient_clip": ("train", "clip"),
    "alternating_flip": ("augment", "flip", "alternating"),
    "random_erase_sl": ("augment", "random_erasing", "area_min"),
    "random_erase_sh": ("augment", "random_erasing", "area_max"),
    "random_erase_r": ("augment", "random_erasing", "ratio_min"),
    "cutout_length": ("augment", "cutout", "size"),
    "augment.cutout.length": ("augment", "cutout", "size"),
    "smooth_factor": ("augment", "label_smoothing", "epsilon"),
    "init.mode": ("init", "kaiming", "mode"),
    "beta": ("augment", "cutmix", "alpha"),
    "train.lr": ("optim", "lr"),
    "train.base_lr": ("optim", "lr"),
    "train.optimizer": ("optim", "name"),
    "train.output_dir": ("run", "output_dir"),
    "train.device": ("run", "device"),
    "schedule.type": ("schedule", "name"),
    "schedule.epochs": ("train", "epochs"),
}


def _optims(value: Any) -> list[tuple[Path, Any]]:
    if value in ("sam", "asam"):
        return [(("optim", "name"), "sgd"), (("wrap", value), True)]
    return [(("optim", "name"), value)]


def _crit(value: Any) -> list[tuple[Path, Any]]:
    return [(("augment", "label_smoothing"), True)] if value == "lsr" else [(("loss", "name"), value)]


def _sched(value: Any) -> list[tuple[Path, Any]]:
    if value == "warmup":  # their multistep after a warm-up
        return [(("schedule", "name"), "multistep"), (("schedule", "warmup"), 0.1)]
    return [(("schedule", "name"), value)]


def _half(value: Any) -> list[tuple[Path, Any]]:
    return [(("train", "precision"), "fp16")] if coerce(value, bool) else []


def _fast(value: Any) -> list[tuple[Path, Any]]:
    return [(("data", "fraction"), 0.5)] if coerce(value, bool) else []


def _init(value: Any) -> list[tuple[Path, Any]]:
    """`--init kaiming`, `--init kaiming,zero_gamma`."""
    names = [] if value == "default" else coerce(value, tuple[str, ...])
    return [(("init", initialisations[name].name), True) for name in names]


def _gpu(value: Any) -> list[tuple[Path, Any]]:
    return [(("run", "device"), f"cuda:{value}")]


# Flags that say nothing any more, and why.
RETIRED = {"nw": "images resident on the device need no workers; those of an image folder are --data.workers"}

# Flags whose value decides what they set.
TRANSLATED: dict[str, Callable[[Any], list[tuple[Path, Any]]]] = {
    "optims": _optims,
    "crit": _crit,
    "sched": _sched,
    "half": _half,
    "amp": _half,
    "fast": _fast,
    "gpu": _gpu,
    "init": _init,
}
SWITCHES = ("half", "amp", "fast")
