"""Classes of images in a table: `labels.csv` with the columns file, class and, optionally, split."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import BadInput

LABELS = "labels.csv"
COLUMNS = ("file", "class", "split")  # of the first row, which may be left out


def read_labels(path: Path, parts: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """By part (train, val, test) and class, the paths of the images, relative to the folder of the table.

    Without a column split, an image is of the part that the first folder of its path names, else of train.

    Args:
        parts: by name in the table or of a folder, the part. Where it is empty, all are of train.
    Raises:
        BadInput: a row is wrong; the message has its line.
    """
    found: dict[str, dict[str, list[str]]] = {}
    known = set()
    # Names of files may have bytes that are no UTF-8, which os.fsdecode represents in the same way.
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        rows = csv.reader(file)
        try:
            for row in rows:
                row = [cell.strip() for cell in row]
                if not any(row) or tuple(map(str.lower, row)) in (COLUMNS, COLUMNS[:2]):
                    continue
                name, label, part = _checked(path.parent, row, parts)
                if name in known:
                    raise ValueError(f"{name} has an earlier row; remove one")
                known.add(name)
                found.setdefault(part, {}).setdefault(label, []).append(name)
        except (ValueError, csv.Error) as error:
            raise BadInput(f"{path} line {rows.line_num}: {error}") from error
    return found


def _checked(base: Path, row: list[str], parts: Mapping[str, str]) -> tuple[str, str, str]:
    """File, class and part of a row."""
    if not 2 <= len(row) <= 2 + bool(parts) or not all(row):
        rule = "file,class or file,class,split" if parts else "file,class"
        raise ValueError(f"a row must be {rule}, got {','.join(row)}")
    name, label, *split = row
    if split and split[0] not in parts:
        raise ValueError(f"split must be one of {', '.join(parts)}, got {split[0]}")
    if not os.path.isfile(base / name):
        raise ValueError(f"there is no file {base / name}")
    return os.path.normpath(name), label, parts.get(*split or Path(name).parts[:1], "train")
