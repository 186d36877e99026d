"""Insert a layer before or after a module of a finished network, or replace the module.

An inserted layer, a graft, is a submodule of the module, and a hook runs it. So no state-dict key changes, a
copy of the network runs its own grafts, and the type of the module stays the same.
"""

from collections.abc import Callable

from torch import Tensor, nn


def insert_after(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Apply `layer` to the output of `module`, after earlier grafts."""
    if "grafts" not in module._modules:
        module.add_module("grafts", nn.Sequential())
        if type(module).forward is not nn.Sequential.forward:  # a Sequential runs its new last child anyway
            module.register_forward_hook(_run_after)
    module.grafts.add_module(name, layer)


def insert_before(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Apply `layer` to the input of `module`, which must not be an nn.Sequential."""
    if "grafts_before" not in module._modules:
        module.add_module("grafts_before", nn.Sequential())
        module.register_forward_pre_hook(_run_before)
    module.grafts_before.add_module(name, layer)


# Functions of the module, not closures over the layer: a copied network runs its own copy of the layer.
def _run_after(module: nn.Module, args: tuple, result: Tensor) -> Tensor:
    return module.grafts(result)


def _run_before(module: nn.Module, args: tuple) -> tuple:
    return (module.grafts_before(args[0]), *args[1:])


def replace_each(model: nn.Module, old: list[nn.Module], new: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """The network with `new(module)` in place of each module of `old`, wherever it is used."""
    replacements = {id(module): new(module).train(module.training) for module in old}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if id(module) in replacements:
            model.set_submodule(name, replacements[id(module)])
    return model
