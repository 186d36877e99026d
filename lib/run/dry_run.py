"""The resolved configuration, model size and schedule of a run, without training."""

import contextlib
import copy
import io

import torch
from torch import nn

from ..augment.pipeline import Normalize, describe, ordered
from ..config.schema import Config, to_yaml
from ..core.errors import BadInput
from ..data.base import Split
from ..factory import build_dataset, build_model, build_schedule, build_steps, images_kept, training_part
from ..graph.cost import count_macs
from .trackers import check_installed


def summary(config: Config) -> str:
    """The table of torchsummary, with totals counted on the model itself."""
    model, shape, _ = _model_and_images(config)
    table, note = io.StringIO(), ""
    try:
        from torchsummary import summary as torchsummary

        with contextlib.redirect_stdout(table):
            # A copy, because it leaves hooks when it fails; in eval mode, to keep the running statistics.
            torchsummary(copy.deepcopy(model).eval(), shape, batch_size=2, device="cpu")
    except Exception as error:  # it supports neither tuples nor dictionaries nor keyword arguments
        reason = f"{type(error).__name__}: {error}"
        note = f"torchsummary cannot show this model ({reason}); its modules:\n{model}\n"
    # Its totals omit parameters outside of leaf modules and count shared ones twice, so they are cut off.
    lines = table.getvalue().partition("Total params")[0].rstrip("=\n ").strip("\n")
    return f"{note or lines}\n{_size(model, shape)}"


def _size(model: nn.Module, shape: tuple[int, int, int]) -> str:
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    macs = f"MACs: {count_macs(model, shape):,} for one image of {shape}"
    return f"parameters: {total:,} ({trainable:,} trainable)\n{macs}"


def _model_and_images(config: Config) -> tuple[nn.Module, tuple[int, int, int], Split]:
    """The model, the shape of its images, and the training split, without pixels where facts are enough."""
    facts = config.chosen["data"].entry.facts
    # The number of images of each class matters only for long tails.
    if facts.shape and (facts.balanced or config.data.imbalance == 1):
        shape, classes, images = facts.shape, facts.num_classes, facts.train
        split = Split(torch.empty(images, 0), torch.arange(images) % classes)
    else:
        dataset = build_dataset(config)
        shape, classes, split = dataset.train.shape, len(dataset.classes), dataset.train
    return build_model(config, shape, classes), shape, training_part(config, split, classes)[0]


def dry_run(config: Config) -> str:
    """The configuration, its differences from the defaults, the size of the model and the schedule."""
    check_installed(config)
    model, shape, split = _model_and_images(config)
    train, images = config.train, len(split)
    if train.batch_size > images:
        raise BadInput(
            f"train.batch_size {train.batch_size} is more than the {images} training images; make it smaller"
        )
    per_epoch, kept = images // train.batch_size, images_kept(config)
    picks = f" > {' > '.join(config.tricks['select'])} ({kept} of {train.batch_size} images)"
    schedule, lr = build_schedule(config), config.chosen["optim"].options["lr"]
    lrs = [f"{lr * schedule(train.epochs * tenth / 10, train.epochs):.5g}" for tenth in range(10)]
    statistics = torch.tensor(0.0), torch.tensor(1.0)  # placeholders: only the order is printed
    return "\n".join(
        [
            *(f"note: {note}" for note in config.notes),
            f"# {config.folder()}",
            to_yaml(config.tree()),
            "# differs from the defaults",
            to_yaml(config.changed),
            _size(model, shape),
            f"steps: {max(1, round(train.epochs * per_epoch)):,} ({per_epoch:,} an epoch, {images:,} images)",
            f"batch: {describe(ordered(build_steps(config, Normalize(*statistics))))}"
            + (picks if kept < train.batch_size else ""),
            f"learning rate at each tenth of the budget: {' '.join(lrs)}",
        ]
    )
