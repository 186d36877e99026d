"""The arithmetic's precision: what runs in half of it, and how small gradients survive that."""

import contextlib

import torch
from torch import Tensor, nn

from .contracts import Precision


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager:
    """Convolutions and matrix products in `precision`; weights, losses and sums that need it stay in fp32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


class Overflow(Exception):
    """The scaled fp16 gradient is not finite: this step must be skipped, and the loss scale is now lower."""


class LossScaler:
    """Scales the loss so that small fp16 gradients do not vanish.

    The dynamic scale of Micikevicius et al. 2017, arXiv:1710.03740. With other precisions it is always 1.
    `torch.amp.GradScaler` does the same, but refuses closures, which SAM needs. Here an overflow is an
    exception that leaves the closure, so no optimizer needs to know about it.
    """

    growth_interval = 2000  # gradients without overflow before the scale doubles

    def __init__(self, precision: Precision):
        self.dynamic = precision == "fp16"
        self.scale = 2.0**16 if self.dynamic else 1.0
        self.good_steps = 0

    def backward(self, loss: Tensor) -> None:
        (loss * self.scale if self.dynamic else loss).backward()

    def finish(self, params: list[Tensor], clip: float | None) -> None:
        """Unscale the gradients, then clip their common norm.

        Raises:
            Overflow: a gradient is infinite or NaN.
        """
        gradients = [p.grad for p in params if p.grad is not None]
        if self.dynamic:
            torch._foreach_div_(gradients, self.scale)
            # The one synchronisation with the device: whether to step at all is a decision of the host.
            if not torch.isfinite(nn.utils.get_total_norm(gradients)):
                self.scale, self.good_steps = self.scale / 2, 0
                raise Overflow
            self.good_steps += 1
            if self.good_steps % self.growth_interval == 0:
                self.scale *= 2
        if clip is not None:
            nn.utils.clip_grad_norm_(params, clip)

    def state_dict(self) -> dict:
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, state: dict) -> None:
        self.scale, self.good_steps = state["scale"], state["good_steps"]
