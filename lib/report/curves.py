"""The curves of one run as a PNG."""

from typing import Any

from .style import encode, sheet, styled


@styled
def draw_curves(rows: list[dict[str, Any]], title: str) -> bytes:
    """Loss, accuracy and learning rate over the epochs.

    Args:
        rows: the lines of metrics.jsonl.
    Returns:
        The bytes of a PNG.
    """
    figure = sheet(3.2, title, width=10)
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
    return encode(figure, dpi=110)


def _plot(panel, rows: list[dict[str, Any]], lines: dict[str, str], label: str) -> None:
    for key, name in lines.items():
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        if points:
            panel.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 40 else None)
    panel.set(xlabel="epoch", ylabel=label)
    panel.xaxis.get_major_locator().set_params(integer=True)
    if len(panel.lines) > 1:
        panel.legend()
