"""Which classes are taken for which: a confusion matrix as a table and as a picture."""

from typing import TYPE_CHECKING

from torch import Tensor

from .style import INK, PALE, encode, plain, sheet, styled
from .text import aligned, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW = 20  # classes whose counts still fit in a table, and into the squares of a picture


def confusion_text(counts: Tensor, classes: tuple[str, ...]) -> str:
    """The counts; of more than 20 classes the 20 pairs that are confused most.

    Args:
        counts: (K, K) the true class down, the guess across.
    """
    K = len(classes)
    if K <= FEW:
        rows = [("true \\ taken for", *(name[:10] for name in classes))]
        rows += [
            (name, *(str(n) if n else "." for n in row))
            for name, row in zip(classes, counts.tolist(), strict=True)
        ]
        return aligned(rows)
    wrong = counts.clone()
    wrong.fill_diagonal_(0)
    most = wrong.flatten().argsort(descending=True, stable=True)[:FEW].tolist()
    rows = [("most confused: true, taken for", "images", "% of the class")]
    for true, guess in (divmod(place, K) for place in most if wrong.flatten()[place]):
        n = int(wrong[true, guess])
        rows.append(
            (f"{classes[true]}, {classes[guess]}", str(n), percent(100 * n / int(counts[true].sum())))
        )
    return aligned(rows)


def draw_confusion(counts: Tensor, classes: tuple[str, ...], title: str) -> bytes:
    """The shares of each true class as colours, with the counts where they can be read.

    Returns:
        The bytes of a PNG.
    """
    return encode(confusion_figure(counts, classes, title), dpi=110)


@styled
def confusion_figure(counts: Tensor, classes: tuple[str, ...], title: str) -> "Figure":
    """The same, to be encoded in any form."""
    K = len(classes)
    classes = tuple(map(plain, classes))
    shares = 100 * counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    names = 9 if K <= FEW else 5 if K <= 120 else 0  # points; more classes than that have no readable names
    side = 3 + 0.5 * K if K <= FEW else min(14, 3 + 0.1 * K)
    figure = sheet(side, width=side + 1)
    panel = figure.subplots()
    # A good network errs in a few per cent, which beside the diagonal's 90 would all look like nothing.
    picture = panel.imshow(shares.numpy() ** 0.5, cmap="Blues", vmin=0, vmax=10)
    ticks = range(K) if names else []
    panel.set_xticks(ticks, [classes[k] for k in ticks], rotation=90 if K > FEW else 45, fontsize=names)
    panel.set_yticks(ticks, [classes[k] for k in ticks], fontsize=names)
    if K <= FEW:
        for label in panel.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
        for true, row in enumerate(counts.tolist()):
            for guess, n in enumerate(row):
                ink = "white" if shares[true, guess] > 35 else INK if n else PALE
                panel.text(guess, true, str(n), ha="center", va="center", color=ink, fontsize=9)
    panel.set(xlabel="taken for", ylabel="true class", title=plain(title))
    panel.grid(False)
    scale = figure.colorbar(picture, shrink=0.8, label="% of the true class")
    scale.set_ticks([p**0.5 for p in (0, 1, 5, 20, 50, 100)], labels=["0", "1", "5", "20", "50", "100"])
    return figure
