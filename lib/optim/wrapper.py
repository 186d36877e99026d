"""What all wrappers around an optimizer share: they show the groups and the state of the one inside."""

from collections.abc import Callable

from torch import Tensor
from torch.optim import Optimizer


class Wrapper:
    """An optimizer around an optimizer; one with a state of its own adds it to `state_dict`."""

    def __init__(self, base: Optimizer):
        self.base = base

    @property
    def param_groups(self) -> list[dict]:
        return self.base.param_groups

    @property
    def params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none)

    def state_dict(self) -> dict:
        return self.base.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.base.load_state_dict(state)


class GradientMap(Wrapper):
    """A wrapper that changes the gradient between the closure and the step."""

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = closure() if closure else None
        self.change([p for p in self.params if p.grad is not None])
        self.base.step()
        return loss

    def change(self, params: list[Tensor]) -> None:
        """Change `p.grad` of every one of `params`, all of which have one."""
        raise NotImplementedError
