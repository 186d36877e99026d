"""How a layer is put before or behind a module of a finished network, or in its place.

A graft is a submodule of the module it is put to, and a hook runs it. So no key of the state changes, a copy
of the network runs its own grafts, and the module's own type, which others may look for, stays.
"""

from collections.abc import Callable

from torch import Tensor, nn


def behind(module: nn.Module, name: str, layer: nn.Module) -> None:
    """From now on the result of `module` goes through `layer`, behind earlier grafts."""
    if "grafts" not in module._modules:
        module.add_module("grafts", nn.Sequential())
        if type(module).forward is not nn.Sequential.forward:  # which would run its new last child anyway
            module.register_forward_hook(_run_behind)
    module.grafts.add_module(name, layer)


def before(module: nn.Module, name: str, layer: nn.Module) -> None:
    """From now on the argument of `module`, which is no nn.Sequential, goes through `layer`."""
    if "grafts_before" not in module._modules:
        module.add_module("grafts_before", nn.Sequential())
        module.register_forward_pre_hook(_run_before)
    module.grafts_before.add_module(name, layer)


# Functions of the module, and not closures over the layer, so that a copied network finds its own copy of it.
def _run_behind(module: nn.Module, args: tuple, result: Tensor) -> Tensor:
    return module.grafts(result)


def _run_before(module: nn.Module, args: tuple) -> tuple:
    return (module.grafts_before(args[0]), *args[1:])


def replace_each(model: nn.Module, old: list[nn.Module], new: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """The network with `new(module)` for each of the modules `old`, at all its places where it is shared."""
    made = {id(module): new(module).train(module.training) for module in old}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if id(module) in made:
            model.set_submodule(name, made[id(module)])
    return model
