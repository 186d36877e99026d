"""The resolved configuration, model size and schedule of a run, without training."""

import contextlib
import copy
import io

from torch import nn

from ..augment.pipeline import describe, ordered
from ..config.schema import Config, to_yaml
from ..core.errors import BadInput, located
from ..core.registry import SOURCES
from ..factory import (
    build,
    build_device,
    build_model,
    build_normalize,
    build_stand_in,
    build_steps,
    process_of,
)
from ..graph.cost import count_macs
from ..store.run_folder import RunFolder
from .trackers import check_installed


def summary(config: Config) -> str:
    """The table of torchsummary, with totals counted on the model itself."""
    dataset = build_stand_in(config)
    shape = dataset.train.shape
    with process_of(config):  # torchsummary draws an image
        model = build_model(config, shape, len(dataset.classes))
        return f"{_table(model, shape)}\n{_size(model, shape)}"


def _table(model: nn.Module, shape: tuple[int, int, int]) -> str:
    from torchsummary import summary as torchsummary

    table = io.StringIO()
    try:
        with contextlib.redirect_stdout(table):
            # A copy, because it leaves hooks when it fails; in eval mode, to keep the running statistics.
            torchsummary(copy.deepcopy(model).eval(), shape, batch_size=2, device="cpu")
    except Exception as error:  # it supports neither tuples nor dictionaries nor keyword arguments
        return (
            f"torchsummary cannot show this model ({type(error).__name__}: {error}); its modules:\n{model}\n"
        )
    # Its totals omit parameters outside of leaf modules and count shared ones twice, so they are cut off.
    return table.getvalue().partition("Total params")[0].rstrip("=\n ").strip("\n")


def _size(model: nn.Module, shape: tuple[int, int, int]) -> str:
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    try:
        macs = count_macs(model, shape)
    except Exception as error:
        raise BadInput(
            f"the model cannot take images of {shape}: {located(error, SOURCES / 'models')}"
        ) from error
    return f"parameters: {total:,} ({trainable:,} trainable)\nMACs: {macs:,} for one image of {shape}"


def dry_run(config: Config) -> str:
    """The configuration, its differences from the defaults, the size of the model and the schedule.

    Raises:
        BadInput: training would be refused.
    """
    check_installed(config)
    RunFolder(config)  # refused if it holds another configuration
    notes = [*config.notes]
    device = build_device(config.run.device)
    run = build(config, device, notes.append, get_dataset=build_stand_in)
    epochs, lr, images = config.train.epochs, config.chosen["optim"].options["lr"], len(run.data.split)
    steps = ordered(build_steps(config, build_normalize(run.spec, device)))
    picks = f" > {' > '.join(config.tricks['select'])} ({run.images} of {run.data.batch_size} images)"
    lrs = [f"{lr * run.schedule(epochs * tenth / 10, epochs):.5g}" for tenth in range(10)]
    return "\n".join(
        [
            *(f"note: {note}" for note in notes),
            f"# {config.folder()}",
            to_yaml(config.tree()),
            "# differs from the defaults",
            to_yaml(config.changed),
            _size(run.model, run.spec.shape),
            f"steps: {run.total:,} ({run.data.steps_per_epoch:,} an epoch, {images:,} images)",
            f"batch: {describe(steps)}" + (picks if run.selections else ""),
            f"learning rate at each tenth of the budget: {' '.join(lrs)}",
        ]
    )
