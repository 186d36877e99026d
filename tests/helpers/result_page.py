"""A page of results, from records like those of real runs, and its elements."""

import json
from html.parser import HTMLParser
from pathlib import Path
from zlib import crc32

from scripts.page import main
from tests.helpers.run_records import write_run

ACCURACIES = {"none": [80.0, 81.0, 83.0], "cutout": [82.5, 84.0, 84.5], "mixup": [79.0, 85.0, 70.25]}
NASTY = '<script>bad()</script><img src=x onerror="bad()">\'"&${data}'


def write(folder: Path, name: str, seed: int, accuracy: float, tricks: dict, **more) -> Path:
    """A complete record of three epochs, of which the last is evaluated."""
    rows = [
        {"epoch": epoch, "step": 391 * epoch, "lr": 0.1 / epoch, "train_loss": 2 / epoch}
        for epoch in (1, 2, 3)
    ]
    diverged = more.get("status") == "diverged"
    rows[-1] |= {"test_accuracy": accuracy, "train_loss": float("nan") if diverged else 0.5}
    record = {
        "config": f"{crc32(repr(tricks).encode()):08x}",
        "config_diff": {
            "model": {"name": "resnet20"},
            "augment": tricks,
            "train": {"epochs": 3, "seed": seed},
        },
        "environment": {"command": f"train.py --seed {seed} --name '{name}'", "code": "abc", "device": "cpu"},
        "best": {"epoch": 2, "accuracy": accuracy + 0.5, "split": "test"},
        **{"model": "resnet20", "parameters": 272474, "epochs": 3.0, "steps": 1173},
        **{"seconds": {"train": 65.0 + seed}, "train_flops": 2.5e15, "train_loss": 0.5, "rows": rows},
    }
    path = write_run(folder, name, seed, accuracy, **record | more)
    (path / "config.yaml").write_text(f"train: {{epochs: 3, seed: {seed}}}\n# whole\n")
    return path


def write_all(folder: Path) -> None:
    """Settings of three seeds, a name full of markup, a diverged run, another data set, a broken record."""
    for name, accuracies in ACCURACIES.items():
        for seed, accuracy in enumerate(accuracies):
            write(folder, name, seed, accuracy, {} if name == "none" else {name: True})
    write(folder, NASTY.replace("/", "_"), 0, 10.0, {"flip": False}, note=NASTY)
    write(folder, "lost", 0, 11.0, {"ricap": True}, status="diverged")
    write(folder, "digits", 0, 97.0, {}, dataset="digits", config="d1617500")
    (folder / "broken").mkdir()
    (folder / "broken/result.json").write_text("{")


def make_page(runs: Path, output: Path, *arguments: str) -> Path:
    assert main([str(runs), "-o", str(output), *arguments]) == 0
    return output / "index.html"


class Elements(HTMLParser):
    """The elements of a page: name, attributes and the text up to the end of each."""

    def __init__(self, page: Path):
        super().__init__()
        self.found: list[tuple[str, dict, list[str]]] = []
        self._open: list[int] = []
        self.feed(page.read_text())

    def handle_starttag(self, name, attributes):
        self.found.append((name, dict(attributes), []))
        if name not in ("meta", "link", "input"):
            self._open.append(len(self.found) - 1)

    def handle_startendtag(self, name, attributes):
        self.found.append((name, dict(attributes), []))

    def handle_endtag(self, name):
        assert self.found[self._open.pop()][0] == name, f"</{name}> ends another element"

    def handle_data(self, text):
        for place in self._open:
            self.found[place][2].append(text)

    def all(self, name: str, **attributes) -> list[tuple[dict, str]]:
        return [
            (own, "".join(texts))
            for found, own, texts in self.found
            if found == name and all(value in own.get(key, "").split() for key, value in attributes.items())
        ]

    @property
    def runs(self) -> dict[str, dict]:
        """The details of the runs, by name."""
        return json.loads(self.all("script", id="data")[0][1])["runs"]

    def cells(self, setting: str) -> dict[str, str]:
        """The texts in the row of a setting, by column."""
        labels = self.all("th")
        texts = [(own["data-label"], text) for own, text in self.all("td")]
        rows = [dict(texts[at : at + len(labels)]) for at in range(0, len(texts), len(labels))]
        return next(row for row in rows if row["setting"].startswith(setting))
