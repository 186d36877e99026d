"""Confusion matrices, as a table and as a figure."""

import json

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...engine.metrics import confusion
from ..records import RunRecord
from ..run_metrics import predictions
from ..style import INK, PALE, encode, plain, sheet, short, styled
from ..text import aligned, number

FEW = 20  # classes: their counts still fit into a table and into the squares of a figure


def confusion_text(counts: Tensor, classes: tuple[str, ...]) -> str:
    """The counts (K, K); for more than 20 classes, the 20 pairs that are confused most often."""
    K = len(classes)
    if K <= FEW:
        rows = [("true \\ predicted", *(name[:10] for name in classes))]
        named = zip(classes, counts.tolist(), strict=True)
        rows += [(name, *(str(n) if n else "." for n in row)) for name, row in named]
        return aligned(rows)
    wrong = counts.clone()
    wrong.fill_diagonal_(0)
    most = wrong.flatten().argsort(descending=True, stable=True)[:FEW].tolist()
    rows = [("most confused: true, predicted", "images", "% of the class")]
    for true, guess in (divmod(place, K) for place in most if wrong.flatten()[place]):
        n = int(wrong[true, guess])
        rows.append((f"{classes[true]}, {classes[guess]}", str(n), number(100 * n / int(counts[true].sum()))))
    return aligned(rows)


def draw_confusion(counts: Tensor, classes: tuple[str, ...], title: str) -> bytes:
    """`draw_counts` as a PNG."""
    return encode(draw_counts(counts, classes, title), dpi=110)


def draw(run: RunRecord, title: str = "") -> Figure:
    """The confusion matrix of a run's last epoch on the test images, from its predictions."""
    logits, y = predictions(run)
    counts = confusion(torch.from_numpy(logits), torch.from_numpy(y))
    result = run.result
    name = f"{result['model']} on {result['dataset']}, seed {run.seed}"
    title = title or f"{name}: test accuracy {result['test_accuracy']:.2f} %"
    classes = class_names(run, len(counts)) or tuple(map(str, range(len(counts))))
    return draw_counts(counts, classes, title)


def class_names(run: RunRecord, K: int) -> tuple[str, ...] | None:
    """The names of the classes, if the run has been evaluated, which writes them down."""
    try:
        names = tuple(map(str, json.loads((run.folder / "evaluation.json").read_text())["classes"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return names if len(names) == K else None


@styled
def draw_counts(counts: Tensor, classes: tuple[str, ...], title: str) -> Figure:
    """The counts (K, K), true classes down, as colours for fractions of a class, and as numbers where these
    fit.
    """
    K = len(classes)
    classes = tuple(plain(short(name, 24)) for name in classes)
    percents = 100 * counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    size = 9 if K <= FEW else 5 if K <= 120 else 0  # points; names of more classes would not be readable
    side = 3 + 0.5 * K if K <= FEW else min(14, 3 + 0.1 * K)
    figure = sheet(side, width=side + 1)
    panel = figure.subplots()
    # The errors of a good network are a few per cent, invisible next to 90 on the diagonal without the root.
    image = panel.imshow(percents.numpy() ** 0.5, cmap="Blues", vmin=0, vmax=10)
    ticks = range(K) if size else []
    panel.set_xticks(ticks, [classes[k] for k in ticks], rotation=90 if K > FEW else 45, fontsize=size)
    panel.set_yticks(ticks, [classes[k] for k in ticks], fontsize=size)
    if K <= FEW:
        for label in panel.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
        for true, row in enumerate(counts.tolist()):
            for guess, n in enumerate(row):
                ink = "white" if percents[true, guess] > 35 else INK if n else PALE
                panel.text(guess, true, str(n), ha="center", va="center", color=ink, fontsize=9)
    panel.set(xlabel="predicted class", ylabel="true class", title=plain(title))
    panel.grid(False)
    scale = figure.colorbar(image, shrink=0.8, label="% of the true class")
    scale.set_ticks([p**0.5 for p in (0, 1, 5, 20, 50, 100)], labels=["0", "1", "5", "20", "50", "100"])
    return figure
