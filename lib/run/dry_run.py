"""The resolved configuration, model size and schedule of a run, without training."""

import contextlib
import copy
import io

from torch import nn

from ..config.schema import Config, to_yaml
from ..factory import (
    build,
    build_device,
    build_model,
    build_stand_in,
    process_of,
)
from ..store.run_folder import RunFolder
from .screen import first_screen, size_text
from .trackers import check_installed


def summary(config: Config) -> str:
    """The table of torchsummary, with totals counted on the model itself."""
    dataset = build_stand_in(config)
    shape = dataset.train.shape
    with process_of(config):  # torchsummary draws an image
        model = build_model(config, shape, len(dataset.classes))
        return f"{_table(model, shape)}\n{size_text(model, shape)}"


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


def dry_run(config: Config) -> str:
    """The first screen of a run, its whole configuration and its learning rates.

    Raises:
        BadInput: training would be refused.
    """
    check_installed(config)
    RunFolder(config)  # refused if it holds another configuration
    notes = [*config.notes]
    device = build_device(config.run.device)
    run = build(config, device, notes.append, get_dataset=build_stand_in)
    epochs, lr = config.train.epochs, config.chosen["optim"].options["lr"]
    lrs = [f"{lr * run.schedule(epochs * tenth / 10, epochs):.5g}" for tenth in range(10)]
    return "\n".join(
        [
            first_screen(run, config, device),
            *(f"note: {note}" for note in notes),
            f"learning rate at each tenth of the budget: {' '.join(lrs)}",
            "\n# all settings",
            to_yaml(config.tree()),
            "# those that differ from the defaults",
            to_yaml(config.changed),
        ]
    )
