"""Small runs with a selection, and what they learn from."""

import pytest
import torch
from torch import Tensor

from lib.config.cli import parse
from lib.core.registry import selections
from lib.core.rng import Rng
from lib.engine.step import Run
from lib.factory import build
from scripts.docs.trials import switch

CPU = torch.device("cpu")
SMALL = "--dataset synthetic --data.size 40 --data.classes 4 --data.image_size 8 --bs 8 --schedule cosine"
PROXY = "--model resnet20 --proxy-model wrn_10_1 --proxy-every 2"
SELECTIONS = [switch("select", name) for name in selections.names()]


def run_of(line: str = PROXY, side: int = 8) -> Run:
    line = f"{SMALL} {line}".replace("image_size 8", f"image_size {side}")
    return build(parse(line.split()).config(), CPU, note=pytest.fail)


def state_of(run: Run) -> list[Tensor]:
    """The weights and statistics of all networks."""
    return [t.clone() for learning in run.learners for t in learning.model.state_dict().values()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def prepared(run: Run, step: int) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        batch = run.prepare(run.data.at(step), Rng(run.seed, step, 0))
    return batch.x, batch.y


def watch(run: Run) -> list:
    """The list that the batches that are learned from are appended to."""
    seen, finalize = [], run.finalize

    def watched(batch, rng):
        seen.append(finalize(batch, rng))
        return seen[-1]

    run.finalize = watched
    return seen
