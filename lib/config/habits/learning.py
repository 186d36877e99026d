"""Conversions of optimizers, schedules, losses and the computation of the gradient."""

from typing import Any, Literal

from ...core.fields import coerce
from ...core.registry import optimizers, schedules
from .meaning import Conversion, Given, Pairs, given_as


def optimizer(value: str, given: Given) -> Pairs:
    """`--optim`; `sgd` has Nesterov momentum in timm, and what is not ours is `timm/<name>`."""
    if value.startswith("lookahead_"):
        return [*optimizer(value.removeprefix("lookahead_"), given), ("wrap.lookahead", True)]
    if value in ("sgd", "nesterov", "momentum"):
        return [("optim.name", "sgd"), ("optim.nesterov", value != "momentum")]
    return [("optim.name", value if value in optimizers else f"timm/{value}")]


def optims(value: str, given: Given) -> Pairs:
    """The optimizer, or `sam` and `asam` around SGD."""
    if value in ("sam", "asam"):
        return [("optim.name", "sgd"), (f"wrap.{value}", True)]
    return [("optim.name", value)]


def undecayed(value: bool, given: Given) -> Pairs:
    """`--no-decay-norm-and-bias`."""
    return [("optim.decay_norm_and_bias", not value)]


def criterion(value: str, given: Given) -> Pairs:
    """The loss; `lsr` is `--label-smoothing`."""
    return [("augment.label_smoothing", True)] if value == "lsr" else [("loss.name", value)]


def bce(value: bool, given: Given) -> Pairs:
    """`--loss bce`."""
    return [("loss.name", "bce")] if value else []


def schedule(value: str, given: Given) -> Pairs:
    """The schedule; `warmup` is multistep after a warm-up, `none` is constant."""
    if value == "plateau":
        raise ValueError("no schedule here depends on the results; choose one, such as --schedule step")
    if value == "warmup":
        return [("schedule.name", "multistep"), ("schedule.warmup", 0.1)]
    return [("schedule.name", "constant" if value == "none" else value)]


def _fraction(value: float, given: Given, what: str) -> float:
    """A learning rate as a fraction of the base learning rate."""
    if (lr := given_as(given, "optim.lr", "lr")) is None and "lr_base" in given:
        ((_, lr),) = lr_base(coerce(given["lr_base"], float), given)
    if lr is None:
        raise ValueError(f"here it is a fraction of --lr: give --lr too, or {what} with that fraction")
    if not (base := coerce(lr, float)):
        raise ValueError("it is a fraction of --lr, which is 0")
    return float(f"{value / base:.12g}")  # 1e-3 of 0.1 is 0.01


def _has(given: Given, option: str) -> bool:
    """Whether the schedule that was given, or the default one, has an option."""
    name = given_as(given, "schedule.name", "schedule", "sched") or "multistep"
    found = str(dict(schedule(str(name), given))["schedule.name"])
    return found in schedules and option in schedules[found].fields


def schedule_option(name: str, kind: Any = float) -> Conversion:
    """An option of the schedules that have it."""

    def convert(value: kind, given: Given) -> Pairs:
        return [(f"schedule.{name}", value)] if _has(given, name) else []

    convert.__doc__ = f"`--schedule.{name}`, of the schedules that have it."
    return convert


def min_lr(value: float, given: Given) -> Pairs:
    """`--schedule.end` is that fraction of `--lr`, of the schedules that have it."""
    if not _has(given, "end"):
        return []
    return [("schedule.end", _fraction(value, given, "--schedule.end"))]


def warmup_lr(value: float, given: Given) -> Pairs:
    """`--warmup-start` is that fraction of `--lr`."""
    return [("schedule.warmup_start", _fraction(value, given, "--warmup-start"))]


def lr_base(value: float, given: Given) -> Pairs:
    """`--lr`, scaled by the batch size over 256, or by its root for adaptive optimizers."""
    batch = given_as(given, "train.batch_size", "batch_size")
    if batch is None:
        raise ValueError("it is scaled by the batch size: give --batch-size too, or --lr")
    if not (size := coerce(given.get("lr_base_size", 256), float)):
        raise ValueError("--lr-base-size must be above 0")
    ratio = coerce(batch, float) / size
    name = str(given_as(given, "opt", "optim.name", "optim", "optimizer") or "sgd").lower()
    usual = "sqrt" if any(part in name for part in ("ada", "lamb")) else "linear"
    return [("optim.lr", value * (ratio**0.5 if given.get("lr_base_scale", usual) == "sqrt" else ratio))]


def warmup_epochs(value: float, given: Given) -> Pairs:
    """`--warmup --warmup-clock shared`, or `delayed` with `--warmup-prefix`."""
    clock = "delayed" if coerce(given.get("warmup_prefix", False), bool) else "shared"
    chosen = given_as(given, "schedule.warmup_clock", "warmup_clock") is not None
    return [("schedule.warmup", value), *([] if chosen or not value else [("schedule.warmup_clock", clock)])]


def warmup_type(value: Literal["none", "linear", "exponential"], given: Given) -> Pairs:
    """`--warmup-shape linear`; `exponential` has another formula here."""
    if value == "exponential":
        raise ValueError("that rise is a power of the time; here --warmup-shape exponential has equal ratios")
    return [] if value == "none" else [("schedule.warmup_shape", value)]


def warmup_after_type(value: float, given: Given) -> Pairs:
    """`--warmup`, unless the type of the warm-up is none."""
    return [] if given.get("schedule.warmup.type") == "none" else [("schedule.warmup", value)]


def clip(value: float | None, given: Given) -> Pairs:
    """`--clip`; 0 is none."""
    if given.get("clip_mode") == "agc":
        return [("wrap.agc.clip", value)]
    return [("train.clip", value or None)]


def clip_mode(value: str, given: Given) -> Pairs:
    """Gradients are clipped by their norm; `agc` is `--agc`."""
    if value == "agc":
        return [("wrap.agc", True)] if given.get("clip_grad") is None else []
    if value != "norm":
        raise ValueError("gradients are clipped by their norm: --clip NORM")
    return []


def accumulate(value: int, given: Given) -> Pairs:
    """`--accumulate`, of which `--batch-size` is the whole batch: the product of both numbers there."""
    if value > 1:
        part = given_as(given, "train.batch_size", "batch_size")
        whole = "N" if part is None else coerce(part, int) * value
        raise ValueError(
            f"--batch-size is the whole batch here: write --batch-size {whole} --accumulate {value}"
        )
    return []


def amp(value: bool, given: Given) -> Pairs:
    """`--precision fp16`, or that of `--amp-dtype`."""
    return [("train.precision", "fp16")] if value and "amp_dtype" not in given else []


def amp_dtype(value: Literal["float16", "bfloat16"], given: Given) -> Pairs:
    """`--precision fp16` or `bf16`, with `--amp`."""
    name = {"float16": "fp16", "bfloat16": "bf16"}[value]
    if "amp" not in given:
        raise ValueError(f"it has an effect with --amp only: write --precision {name}")
    return [("train.precision", name)] if coerce(given["amp"], bool) else []


def precision(value: str, given: Given) -> Pairs:
    """`O0` and `32-true` are fp32, `O1` and `16-mixed` fp16, `bf16-mixed` is bf16; weights stay in fp32."""
    names = dict.fromkeys(("O0", "32", "32-true"), "fp32") | dict.fromkeys(("O1", "16", "16-mixed"), "fp16")
    if value in ("O2", "O3", "16-true", "bf16-true", "64", "64-true"):
        raise ValueError(f"{value} changes the weights, which stay in fp32 here; choose fp32, bf16 or fp16")
    return [("train.precision", names.get(value, value.removesuffix("-mixed")))]
