"""The last lines of a run on the console."""

from pathlib import Path
from typing import Any


def outcome(result: dict[str, Any], folder: Path) -> str:
    """Result of a run, and where its record is."""
    if result["status"] == "diverged":
        where = f"at step {result['step']} with learning rate {result['lr']:.6g}"
        return f"diverged: loss {result['loss']} {where}\nrun folder: {folder}"
    columns = [key for key in result if key.endswith("_accuracy")]
    best, seconds = result["best"], result["seconds"]
    parts = [f"{part} {seconds[part]:.1f} s" for part in ("data", "select") if part in seconds]
    # Records of earlier versions lack it.
    start = f"start {seconds['start']:.1f} s, " if "start" in seconds else ""
    return "\n".join(
        [
            "  ".join(
                f"{key.removesuffix('_accuracy').replace('_', ' ')} accuracy {result[key]:.2f} %"
                for key in columns
            )
            + f"  (last epoch; best {best['split']} {best['accuracy']:.2f} % in epoch {best['epoch']})",
            f"time: {start}train {seconds['train']:.1f} s (of which {', '.join(parts)}), "
            f"evaluate {seconds['evaluate']:.1f} s; {result['images_per_second']:,.0f} images/s, "
            f"peak memory {result['peak_memory_mb']:,.0f} MB",
            f"run folder: {folder}",
            f"curves: {folder / 'curves.png'}",
        ]
    )
