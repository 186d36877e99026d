"""Conversions of devices, trackers and the continuation of runs."""

from .meaning import Given, Pairs


def gpu(value: str | bool, given: Given) -> Pairs:
    """`--device cuda`, or `cuda:<number>`."""
    if isinstance(value, str):
        return [("run.device", f"cuda:{value}")]
    return [("run.device", "cuda")] if value else []


def accelerator(value: str, given: Given) -> Pairs:
    """`--device`; `gpu` is `cuda`."""
    return [("run.device", "cuda" if value == "gpu" else value)]


def devices(value: str, given: Given) -> Pairs:
    """One device; several are used by `torchrun`."""
    if value not in ("1", "auto", "-1"):
        raise ValueError(f"start the command by torchrun --nproc-per-node {value} to use several devices")
    return []


def tensorboard(value: bool, given: Given) -> Pairs:
    """`--tracker tensorboard`, or `none`."""
    return [("run.tracker", "tensorboard" if value else "none")]


def wandb(value: bool, given: Given) -> Pairs:
    """`--tracker tensorboard,wandb`."""
    return [("run.tracker", "tensorboard,wandb")] if value else []


def resume(value: str | bool, given: Given) -> Pairs:
    """A repeated command resumes its run by itself."""
    if str(value).lower() not in ("true", "false"):
        raise ValueError(
            f"a repeated command resumes its run; to start from these weights: --init-from {value}"
        )
    return []
