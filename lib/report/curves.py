"""The curves of one run as a PNG."""

import io
from typing import Any


def draw_curves(rows: list[dict[str, Any]], title: str) -> bytes:
    """Loss, accuracy and learning rate over the epochs.

    Args:
        rows: the lines of metrics.jsonl.
    Returns:
        The bytes of a PNG.
    """
    # matplotlib takes half a second to import, so only who draws pays.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    _plot(panels[0], rows, {"train_loss": "train", "val_loss": "val", "test_loss": "test"}, "loss")
    keys = sorted(key for row in rows for key in row if key.endswith("_accuracy"))
    _plot(
        panels[1],
        rows,
        {key: key.removesuffix("_accuracy").replace("_", " ") for key in keys},
        "accuracy (%)",
    )
    _plot(panels[2], rows, {"lr": "learning rate"}, "learning rate")
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _plot(panel, rows: list[dict[str, Any]], lines: dict[str, str], label: str) -> None:
    for key, name in lines.items():
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        if points:
            panel.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 40 else None)
    panel.set(xlabel="epoch", ylabel=label)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(alpha=0.3)
    if len(panel.lines) > 1:
        panel.legend()
