"""Fine-tuning: weights to start from, a new head where they are of other classes, and frozen parts."""

from collections.abc import Callable
from fnmatch import fnmatchcase

from torch import Size, nn

from ..config.schema import Config
from ..core.errors import BadInput, nearest
from ..data.base import DataSpec
from ..store.weights import Tensors, Weights, read_weights

BODY = "body"  # in train.freeze: everything except the head
Build = Callable[..., nn.Module]  # `(shape, num_classes)` to an untrained network of the configuration


def load_initial_weights(
    config: Config, model: nn.Module, spec: DataSpec, build: Build, note: Callable[[str], None]
) -> None:
    """Load the weights of `train.init_from`, if it is given; a head for other classes keeps its own.

    Raises:
        BadInput: they are the weights of another model.
    """
    if not config.train.init_from:
        return
    mine = model.state_dict()
    weights = read_weights(config.train.init_from, mine)
    left = _new_head(weights, mine, spec, build)
    for name in left:
        weights.tensors.pop(name, None)
    model.load_state_dict(weights.tensors, strict=False)
    if left:
        note(f"train.init_from: {_listed(left)} {_why(weights, spec)}, so they keep their initial values")
    if names := ", ".join(config.tricks["init"]):
        note(f"the weights of train.init_from replace those of init: {names}")


def _new_head(weights: Weights, mine: Tensors, spec: DataSpec, build: Build) -> list[str]:
    """The names of the head, if the weights are of other classes; all others must fit."""
    theirs = {name: tensor.shape for name, tensor in weights.tensors.items()}
    missing = [name for name in mine if name not in theirs and not _is_counter(name)]
    unexpected = [name for name in theirs if name not in mine]
    other = [name for name in mine if name in theirs and theirs[name] != mine[name].shape]
    renamed = weights.data is not None and weights.data.classes != spec.classes
    if not (missing or unexpected or other or renamed):
        return []
    shape, classes = spec.shape, len(spec.classes)
    head = names_of_head(build, shape, classes)
    if not unexpected and {*missing, *other} <= set(head):
        return head
    place = f"{weights.path}, entry {weights.entry}" if weights.entry else str(weights.path)
    stem = _varying(build, (shape, classes), ((shape[0] + 1, *shape[1:]), classes))
    if not (missing or unexpected) and other and set(other) <= {*head, *stem}:
        name = next(name for name in other if name in stem)
        raise BadInput(
            f"the weights in {place} are for images of other channels: {name} is {_size(theirs[name])}, and "
            f"{_size(mine[name].shape)} for images of {shape} here; give images of as many channels"
        )
    shapes = [f"{name}, {_size(theirs[name])} there and {_size(mine[name].shape)} here" for name in other]
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    faults = "; ".join(f"{len(each)} {what} ({_listed(each)})" for what, each in parts.items() if each)
    raise BadInput(
        f"the weights in {place} are another model's, of {len(mine)} tensors here: {faults}; give the "
        "--model they were trained with"
    )


def names_of_head(build: Build, shape: tuple[int, int, int], num_classes: int) -> list[str]:
    """The tensors of a network whose shape the number of classes decides."""
    return _varying(build, (shape, num_classes), (shape, num_classes + 1))


def _varying(build: Build, here: tuple, there: tuple) -> list[str]:
    """The tensors of other shapes in two networks; none where one of these cannot be built."""
    try:
        ours, others = build(*here), build(*there)
    except (ValueError, RuntimeError, AssertionError):
        return []
    shapes = {name: tensor.shape for name, tensor in others.state_dict().items()}
    return [name for name, tensor in ours.state_dict().items() if shapes.get(name) != tensor.shape]


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")  # which files older than torch 0.4.1 lack


def _why(weights: Weights, spec: DataSpec) -> str:
    return f"of {len(weights.data.classes)} other classes" if weights.data else "are of other classes"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _size(shape: Size) -> str:
    return "x".join(map(str, shape)) or "a number"


def freeze(model: nn.Module, patterns: tuple[str, ...], head: Callable[[], list[str]]) -> None:
    """Stop the training of the parameters that a pattern matches, and of the statistics of their norms.

    Args:
        patterns: `body`, or patterns of the names of parameters or modules, such as `layer1` or `*.bn?`.
        head: returns the names of the head.
    Raises:
        BadInput: a pattern matches nothing, or nothing is left to train.
    """
    names, parameters = list(model.state_dict()), dict(model.named_parameters())
    frozen: set[str] = set()
    for pattern in patterns:
        kept = set(head()) if pattern == BODY else set()
        found = {name for name in names if (name not in kept if pattern == BODY else _matches(name, pattern))}
        if not found:
            hint = nearest(pattern, [name for name, _ in model.named_modules() if name])
            raise BadInput(
                f"train.freeze: nothing in the model is called {pattern}; {hint or 'see --summary'}"
            )
        frozen |= found
    if parameters.keys() <= frozen:
        raise BadInput(f"train.freeze: {', '.join(patterns)} is the whole model; nothing is left to train")
    for name in parameters.keys() & frozen:
        parameters[name].requires_grad_(False)
    for name, module in model.named_modules():
        own = [f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)]
        own = own or [f"{name}.running_mean"]
        if getattr(module, "running_mean", None) is not None and {*own} <= frozen:
            module.eval()
            module.frozen = True  # so that its statistics are not measured again for an average


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern matches a name or a module that it lies in."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))
