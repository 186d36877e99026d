"""torch.compile of the networks of a run."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..config.settings import TrainSettings
from ..core.errors import out_of_memory
from ..core.precision import autocast
from ..core.rng import Rng
from ..engine.step import Run

RECORDED = 3  # forwards until a CUDA graph is replayed: one warms up, one is recorded


def compile_networks(run: Run, train: TrainSettings, note: Callable[[str], None]) -> None:
    """Compile the networks that a run trains, if that is on.

    It happens before the first step, so that the time does not count as training time, and apart from
    `build`, which the user can then see the result of: compilation takes minutes.

    Args:
        note: called with the reason if a network stays as it is.
    """
    if not train.compile:
        return
    with torch.no_grad():
        batch = run.prepare(run.data.at(0), Rng(0))
    images = [run.images, *(run.data.batch_size for _ in run.selections)]
    for learning, count in zip(run.learners, images, strict=True):
        per_process = math.ceil(count / learning.world.size)
        x = batch.x[:1].repeat(math.ceil(per_process * batch.views / learning.accumulate), 1, 1, 1)
        _compile(learning.model, x, train, note)


def _compile(model: nn.Module, x: Tensor, train: TrainSettings, note: Callable[[str], None]) -> None:
    """Compile a model for batches like `x` (B, C, H, W)."""
    before = [buffer.clone() for buffer in model.buffers()]
    model.compile(mode=train.compile_mode)
    try:
        for _ in range(RECORDED):
            with autocast(x.device, train.precision):
                model(x).sum().backward()
    except Exception as error:  # Inductor fails in many ways: no compiler, an unknown operator...
        if out_of_memory(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        where = f"{type(error).__name__}: {' '.join(lines[:2])}"
        note(f"--compile has no effect, so training takes longer and learns the same: {where}")
        model._compiled_call_impl = None  # torch has no public way back
    model.zero_grad(set_to_none=True)
    with torch.no_grad():  # a forward in train mode has changed BatchNorm's statistics
        for buffer, original in zip(model.buffers(), before, strict=True):
            buffer.copy_(original)
