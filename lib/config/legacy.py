"""Flags and keys of older CIFAR projects, rewritten to today's keys before anything else reads them."""

from collections.abc import Callable
from typing import Any

from ..core.fields import coerce
from ..core.registry import folded, initialisations

Pairs = list[tuple[str, Any]]  # keys with their values

SECTIONS = {
    "dataset": "data",
    "augmentation": "augment",
    "optimizer": "optim",
    "scheduler": "schedule",
}

RENAMED = {
    "bs": "train.batch_size",
    "learning_rate": "optim.lr",
    "gradient_clip": "train.clip",
    "alternating_flip": "augment.flip.alternating",
    "random_erase_sl": "augment.random_erasing.area_min",
    "random_erase_sh": "augment.random_erasing.area_max",
    "random_erase_r": "augment.random_erasing.ratio_min",
    "cutout_length": "augment.cutout.size",
    "augment.cutout.length": "augment.cutout.size",
    "smooth_factor": "augment.label_smoothing.epsilon",
    "init.mode": "init.kaiming.mode",
    "beta": "augment.cutmix.alpha",
    "train.lr": "optim.lr",
    "train.base_lr": "optim.lr",
    "train.optimizer": "optim.name",
    "train.output_dir": "run.output_dir",
    "train.device": "run.device",
    "schedule.type": "schedule.name",
    "schedule.epochs": "train.epochs",
}

# Flags that set nothing any more, and why.
RETIRED = {
    "nw": "images resident on the device need no workers; an image folder's are set by --data.workers",
}


def _optims(value: Any) -> Pairs:
    if folded(value) in ("sam", "asam"):
        return [("optim.name", "sgd"), (f"wrap.{folded(value)}", True)]
    return [("optim.name", value)]


def _crit(value: Any) -> Pairs:
    return [("augment.label_smoothing", True)] if folded(value) == "lsr" else [("loss.name", value)]


def _sched(value: Any) -> Pairs:
    if folded(value) == "warmup":  # multistep after a warm-up, in that project
        return [("schedule.name", "multistep"), ("schedule.warmup", 0.1)]
    return [("schedule.name", value)]


def _half(value: Any) -> Pairs:
    return [("train.precision", "fp16")] if coerce(value, bool) else []


def _fast(value: Any) -> Pairs:
    return [("data.fraction", 0.5)] if coerce(value, bool) else []


def _init(value: Any) -> Pairs:
    """`--init kaiming`, `--init kaiming,zero_gamma`."""
    names = [] if value == "default" else coerce(value, tuple[str, ...])
    return [(f"init.{initialisations[name].name}", True) for name in names]


def _gpu(value: Any) -> Pairs:
    return [("run.device", f"cuda:{value}")]


def _tensorboard(value: Any) -> Pairs:
    return [("run.tracker", "tensorboard" if coerce(value, bool) else "none")]


# Flags whose value decides what they set.
TRANSLATED: dict[str, Callable[[Any], Pairs]] = {
    "optims": _optims,
    "crit": _crit,
    "sched": _sched,
    "half": _half,
    "amp": _half,
    "fast": _fast,
    "gpu": _gpu,
    "init": _init,
    "tensorboard": _tensorboard,
    "run.tensorboard": _tensorboard,
}
SWITCHES = ("half", "amp", "fast", "tensorboard", "run.tensorboard")

SPELLINGS = (*RENAMED, *TRANSLATED)  # to suggest where a key is unknown


def normal(key: str) -> str:
    """A key with today's name of its section, in lower case, and with `_` for `-`."""
    head, dot, rest = folded(key).partition(".")
    return SECTIONS.get(head, head) + dot + rest if dot else head


def rewrite(key: str, value: Any) -> Pairs:
    """Today's keys and values for a key with its value; itself where it is none of an older project.

    Raises:
        ValueError: the value is none that the older flag takes.
    """
    key = normal(key)
    if key in RETIRED:
        return []
    return TRANSLATED[key](value) if key in TRANSLATED else [(RENAMED.get(key, key), value)]


def is_switch(key: str) -> bool | None:
    """Whether an older flag may be given without a value; None for a key that is not rewritten by value."""
    key = normal(key)
    return key in SWITCHES if key in (*TRANSLATED, *RETIRED) else None
