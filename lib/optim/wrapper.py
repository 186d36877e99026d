"""Optimizers made of other optimizers: they are torch optimizers, but have no parameter groups themselves."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


class Composite(Optimizer):
    """A torch optimizer whose parameter groups and state belong to other optimizers, named by a subclass."""

    def __init__(self):
        # Optimizer.__init__ would make new groups. This sets up everything else: hooks and profiling.
        self.__setstate__({})

    def __getstate__(self) -> dict[str, Any]:
        # A learning rate scheduler patches the instance's `step`; as in torch, a copy does not inherit that.
        return {name: value for name, value in vars(self).items() if name[0] != "_" and name != "step"}

    @property
    def params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


class Wrapper(Composite):
    """A torch optimizer around another one, with the same parameter groups, state and defaults.

    So a learning rate scheduler may be given either. A wrapper with state adds it to `state_dict`.
    """

    def __init__(self, base: Optimizer):
        self.base = base
        super().__init__()

    @property
    def param_groups(self) -> list[dict]:
        return self.base.param_groups

    @property
    def state(self) -> dict[Tensor, Any]:
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:
        return self.base.defaults

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
        """Change `p.grad` of `params`, all of which have one."""
        raise NotImplementedError
