"""The preview shows the batch that training sees; the dry run and the listing show the order of the steps."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import train
from lib.augment.pipeline import Augmentation, Mix, Step, describe, ordered
from lib.config.cli import parse
from lib.core.batch import Batch, PixelScale
from lib.core.facts import Stage
from lib.core.registry import augmentations
from lib.core.rng import Rng
from lib.factory import build
from lib.report.image_grid import GAP, MARGIN, ImageRow, draw_grid, row_of, target_text
from scripts import preview as script
from scripts.preview import preview
from tests.helpers.refusals import exit_code_of

DATA = "--dataset synthetic --data.size 64 --data.classes 4 --data.image-size 16"
BASE = f"{DATA} --batch-size 16 --model resnet20"
ENTRIES = [augmentations[name] for name in augmentations.names()]
MIXES = [entry.name for entry in ENTRIES if entry.facts.stage is Stage.MIX]
ON = " ".join(f"--{name}" for name in augmentations.names())


def rows_of(line: str, images: int = 8, epoch: int = 0) -> list[ImageRow]:
    return preview(parse(f"{BASE} {line} --device cpu".split()).config(), images, epoch)[0]


def pixels(row: ImageRow) -> torch.Tensor:
    return torch.stack([image for views in row.images for image in views])


@pytest.mark.parametrize("line", ["", "--random-erasing --mixup", "--data.channels 1 --cutout", "--seed 5"])
@pytest.mark.parametrize("epoch", [0, 3])
def test_the_last_row_is_the_batch_that_training_sees(line, epoch):
    config = parse(f"{BASE} {line} --device cpu".split()).config()
    run = build(config, torch.device("cpu"), pytest.fail)
    step = epoch * 4  # 64 images in batches of 16
    batch = run.prepare(run.data.at(step), Rng(config.train.seed, step, 0))
    x = run.splits["test"].x[:1]
    # Evaluation's own map of black and white undoes the normalisation.
    black, white = (run.normalize(torch.full_like(x, value))[0] for value in (0, 255))
    expected = ((batch.x[:8] - black) / (white - black)).clamp(0, 1) * 255
    rows = rows_of(line, epoch=epoch)
    assert (pixels(rows[-1]) - expected).abs().max() <= 0.51
    assert torch.equal(pixels(rows[0]), run.data.at(step).x[:8].expand(-1, 3, -1, -1))
    assert rows[-1].captions == [[target_text(y, tuple(f"class {k}" for k in range(4)))] for y in batch.y[:8]]


def test_every_active_step_has_a_row_in_the_order_of_the_stages():
    rows = rows_of(ON)
    place = {entry.name: (entry.facts.stage, entry.name) for entry in ENTRIES}
    shown = [row.name for row in rows[1:]]
    assert shown == sorted(shown, key=place.get)
    assert {*shown} >= {*place} - {*MIXES}
    assert len({*shown} & {*MIXES}) == 1
    assert all(row.captions is None for row in rows[1:-1])
    for row in rows[1:]:
        assert row.detail.startswith(augmentations[row.name].facts.stage.name.lower())


def test_an_inactive_step_has_no_row():
    counts = [len(rows_of("--cutout --cutout-start 2 --cutout-stop 4", epoch=epoch)) for epoch in range(6)]
    assert counts == [3, 3, 4, 4, 3, 3]


def test_the_row_of_several_mixes_names_the_drawn_one():
    drawn = set()
    for epoch in range(8):
        both = rows_of("--mixup --cutmix", epoch=epoch)[-1]
        alone = rows_of(f"--{both.name}", epoch=epoch)[-1]
        assert torch.equal(pixels(both), pixels(alone))
        (other,) = {"mixup", "cutmix"} - {both.name}
        assert both.detail.endswith(f"not drawn: {other}")
        drawn.add(both.name)
    assert len(drawn) == 2
    names = {rows_of("--mixup --mixup-prob 0.5", epoch=epoch)[-1].name for epoch in range(8)}
    assert names == {"mixup", "no mix"}


CLASSES = ("cat", "dog", "frog", "ship", "a_name_of_many_letters")


@pytest.mark.parametrize(
    ("y", "lines"),
    [
        ((0, 1, 0, 0, 0), ["dog"]),
        ((0.73, 0.27, 0, 0, 0), ["cat 0.73", "dog 0.27"]),
        ((0.27, 0, 0.73, 0, 0), ["frog 0.73", "cat 0.27"]),
        ((0.4, 0.3, 0.2, 0.1, 0), ["cat 0.40", "dog 0.30", "frog 0.20", "rest 0.10"]),
        ((0.02, 0.92, 0.02, 0.02, 0.02), ["dog 0.92", "rest 0.08"]),  # smoothing
        ((0, 0, 0, 0, 1), ["a_name_of_m…"]),
    ],
)
def test_a_target_is_shown_as_at_most_three_classes_and_the_rest(y, lines):
    assert target_text(torch.tensor(y), CLASSES) == lines


def test_both_of_two_classes_are_shown():
    assert target_text(torch.tensor([0.73, 0.27]), ("cat", "dog")) == ["cat 0.73", "dog 0.27"]


def colours(count: int, side: int = 4) -> Batch:
    """Images of distinct pixels, none of them white."""
    x = torch.arange(count * 3 * side * side).view(count, 3, side, side) % 250
    return Batch(x.to(torch.uint8), torch.eye(count), torch.arange(count) + 70)


def test_views_of_an_image_are_in_its_column_for_any_order_of_the_batch():
    batch = colours(4)
    for copies in (batch.repeated(2), batch.take(torch.tensor([2, 1, 0, 0, 1, 2]))):
        row = row_of("views", "", copies, batch.index[:2])
        assert [len(views) for views in row.images] == [2, 2]
        for column, image in zip(row.images, batch.x, strict=False):
            assert all(torch.equal(view, image) for view in column)
    gone = row_of("left out", "", batch.take(torch.tensor([1])), batch.index[:2])
    assert [len(views) for views in gone.images] == [0, 1]


def test_the_normalisation_is_undone_and_grey_stays_grey():
    batch = colours(3)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.1)))
    scale = PixelScale(black=-mean / std, white=(1 - mean) / std)
    row = row_of("", "", batch.replace(x=(batch.x / 255 - mean) / std, scale=scale), batch.index)
    assert torch.equal(pixels(row), batch.x)
    grey = row_of("", "", batch.replace(x=batch.x[:, :1]), batch.index)
    assert torch.equal(pixels(grey), batch.x[:, :1].expand(-1, 3, -1, -1))


def test_pixels_are_squares_and_smaller_images_are_centred():
    batch = colours(3, side=8)
    small = batch.replace(x=batch.x[..., 2:6, 2:6])
    rows = [row_of(name, "", b, batch.index) for name, b in (("a", batch), ("b", small))]
    figure = np.asarray(Image.open(io.BytesIO(draw_grid(rows))).convert("RGB"))
    left = figure.shape[1] - MARGIN - 3 * 96 - 2 * GAP
    for number, (whole, part) in enumerate(zip(batch.x, small.x, strict=True)):
        x = left + number * (96 + GAP)
        for image, top, size in ((whole, MARGIN, 96), (part, figure.shape[0] - MARGIN - 72, 48)):
            inset = (96 - size) // 2
            seen = figure[top : top + size, x + inset : x + inset + size]
            enlarged = F.interpolate(image[None].float(), (size, size)).byte()[0]
            assert np.array_equal(seen, enlarged.permute(1, 2, 0).numpy())


def test_the_same_command_writes_the_same_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    figures = []
    for seed in (0, 0, 1):
        line = f"{BASE} --cutout 4 --ricap --crit lsr --images 3 --output out/grid.png --seed {seed}"
        torch.manual_seed(len(figures))
        assert script.main(line.split()) == 0
        figures.append(Path("out/grid.png").read_bytes())
    assert figures[0] == figures[1] != figures[2]
    out = capsys.readouterr().out
    assert "batch: crop > flip > normalize > cutout > ricap > label_smoothing" in out
    assert [path.name for path in Path("out").iterdir()] == ["grid.png"]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--images 0", "--images must be from 1 to the batch size 16, got 0"),
        ("--images 17", "--images must be from 1 to the batch size 16, got 17"),
        ("--images many", "argument --images: invalid int value: 'many'"),
        ("--epoch -1", "--epoch must be at least 0, got -1"),
        ("--output", "expected one argument"),
        ("-o grid.jpg", "--output must end in .png, got 'grid.jpg'"),
        ("-o /proc/none/grid.png", "cannot write /proc/none/grid.png"),
        ("--cutuot", "did you mean cutout?"),
        ("--cutout-size 0", "--cutout-size (command line): size must be at least 1, got 0"),
        ("--crop-padding 40 --crop-mode reflect", "images of (3, 16, 16) cannot be augmented so"),
        ("--fraction 0.1", "a batch of 16 images cannot be drawn from a training set of 6"),
        ("--fraction 0.001", "data: fraction must be"),
        ("--dry-run", "--dry-run is an option of train.py"),
    ],
)
def test_user_errors_end_in_one_line(line, part, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert exit_code_of(script.main, [*BASE.split(), *line.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert part in captured.err
    assert list(tmp_path.iterdir()) == []


def planned(line: str, capsys, monkeypatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "1000")
    assert train.main(["--dry-run", *BASE.split(), *line.split()]) == 0
    (order,) = [text for text in capsys.readouterr().out.splitlines() if text.startswith("batch ")]
    return order.removeprefix("batch ").strip().split(" > ")


def test_the_dry_run_shows_the_order_of_all_steps(capsys, monkeypatch):
    order = planned(ON, capsys, monkeypatch)
    rank = {entry.name: (entry.facts.stage, entry.name) for entry in ENTRIES if entry.name not in MIXES}
    rank |= {
        "normalize": (Stage.NORMALIZE, ""),
        f"one of ({', '.join(f'{m} 1' for m in MIXES)})": (Stage.MIX,),
    }
    assert order == sorted(rank, key=rank.get)
    assert planned("--cutout --no-crop --no-flip", capsys, monkeypatch) == ["normalize", "cutout"]


@pytest.mark.parametrize(
    ("probs", "line"),
    [
        ((1.0,), "a"),
        ((0.5,), "a 0.5 or none"),
        ((1.0, 0.5), "one of (a 1, b 0.5)"),
        ((0.25, 0.5), "one of (a 0.25, b 0.5) or none"),
    ],
)
def test_the_order_includes_the_probabilities_of_mixes(probs, line):
    steps = [Step(name, Stage.MIX, Mix(prob=p)) for name, p in zip("ab", probs, strict=False)]
    for permuted in itertools.permutations(steps):
        assert describe(ordered(permuted)) == line


def test_the_order_includes_the_epochs_of_a_step():
    maps = (Augmentation(), Augmentation(start=3), Augmentation(stop=9), Augmentation(start=3, stop=9))
    steps = [Step(name, Stage.COLOR, each) for name, each in zip("abcd", maps, strict=True)]
    line = "a > b (from epoch 3) > c (before epoch 9) > d (from epoch 3, before epoch 9)"
    assert describe(ordered(steps)) == line


def test_the_listing_of_augmentations_is_ordered_by_stage(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert train.main(["--list", "augment"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["name", "stage"]
    found = [(line.split(",")[0].split()[0], line[head.index("stage") :].split()[0]) for line in lines]
    stages = [Stage[stage.upper()] for _, stage in found]
    assert stages == sorted(stages)
    assert {name: stage.name for (name, _), stage in zip(found, stages, strict=True)} == {
        entry.name: entry.facts.stage.name for entry in ENTRIES
    }
