"""The pictures in docs/augmentations: drawn images before and after an augmentation, none from a data set."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.augment.pipeline import Normalize
from lib.core.batch import Batch
from lib.core.facts import Stage
from lib.core.registry import Entry, augmentations
from lib.core.rng import Rng
from lib.data.base import channel_statistics
from lib.report.image_grid import ImageRow, draw_grid, row_of
from scripts.docs.drawings import CLASSES, drawings

SEED = 11  # one of which every augmentation shows something
DRAWS = 3
BUDGET = 200
EPOCHS = (0, 67, 133)  # of the draws, for what changes as such a run goes on; of either parity
SHOWN = [0, 3]  # the drawings that test-time views are shown of
LIMIT = 25_000  # bytes of a picture


def picture(entry: Entry) -> bytes:
    """What an augmentation or a test-time view does, as a PNG with as many colours as make a small file."""
    rows = augmentation_rows(entry) if entry.kind == augmentations.kind else view_rows(entry)
    for colours in (256, 128, 64, 32, 16):
        if len(drawn := draw_grid(rows, colours=colours)) <= LIMIT:
            break
    return drawn


def augmentation_rows(entry: Entry) -> list[ImageRow]:
    """The images as they are, and several draws of the augmentation; one where all draws are the same."""
    before, drawn = batch_for(entry.facts.stage), []
    for draw in range(DRAWS):
        after = augmented(entry, before, draw, epoch=EPOCHS[draw])
        if not any(same(after, other) for other in drawn):
            drawn.append(after)
    first, last = (augmented(entry, before, 0, epoch) for epoch in (EPOCHS[0], EPOCHS[-1]))
    timed = not same(first, last)
    # Targets are written only where they are no longer what they were.
    one_hot = torch.eye(len(CLASSES))
    classes = () if all(torch.equal(after.y, one_hot[after.index]) for after in drawn) else CLASSES
    rows = [row_of("before", "", before, before.index, classes)]
    for number, after in enumerate(drawn, start=1):
        name = f"epoch {after.epoch}" if timed else f"draw {number}" if len(drawn) > 1 else "after"
        H, W = after.x.shape[-2:]
        size = f"{H}x{W} pixels" if before.x.shape[-2:] != (H, W) else ""
        rows.append(row_of(name, size, after, before.index, classes))
    return rows


def augmented(entry: Entry, batch: Batch, draw: int, epoch: int) -> Batch:
    """The batch after this augmentation at its defaults, with the draws of one step."""
    return entry.build().within(BUDGET).apply(batch.replace(epoch=epoch), Rng(SEED, draw, 0).fold(entry.name))


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.x, other.x) and torch.equal(one.y, other.y)


def batch_for(stage: Stage) -> Batch:
    """The drawings as an augmentation of this stage meets them."""
    x = drawings()
    index = torch.arange(len(x))
    batch = Batch(x, F.one_hot(index).float(), index)
    if stage <= Stage.NORMALIZE:
        return batch
    statistics = (torch.tensor(values)[:, None, None] for values in channel_statistics(x))
    return Normalize(*statistics).apply(batch, Rng(0))


class Watched(nn.Module):
    """Notes the images that it is asked of."""

    def __init__(self):
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return torch.zeros(len(x), len(CLASSES))


def view_rows(entry: Entry) -> list[ImageRow]:
    """What the network is shown of two images, a row for each image."""
    model = Watched()
    entry.build(model=model)(drawings()[SHOWN].float())
    views = [view.round().to(torch.uint8) for view in model.seen]
    return [ImageRow(CLASSES[place], "", [[view[n]] for view in views]) for n, place in enumerate(SHOWN)]
