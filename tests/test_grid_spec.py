"""The file of a grid: rows become command lines, and errors are one line that names the place."""

from pathlib import Path

import pytest

import scripts.grid
from lib.config.cli import parse
from lib.grid.spec import read_grid, read_seeds
from tests.helpers.grids import write_grid

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines(text: str) -> dict[str, str]:
    return {row.name: " ".join(row.arguments) for row in write_grid(text).rows}


def test_axes_give_one_row_per_combination_in_order():
    assert lines("axes: {model.name: [resnet20, vgg16], cutout: [off, on], lr: [0.1, 5e-2]}") == {
        "resnet20-lr0.1": "--model.name resnet20 --no-cutout --lr 0.1",
        "resnet20-lr5e-2": "--model.name resnet20 --no-cutout --lr 5e-2",
        "resnet20-cutout-lr0.1": "--model.name resnet20 --cutout --lr 0.1",
        "resnet20-cutout-lr5e-2": "--model.name resnet20 --cutout --lr 5e-2",
        "vgg16-lr0.1": "--model.name vgg16 --no-cutout --lr 0.1",
        "vgg16-lr5e-2": "--model.name vgg16 --no-cutout --lr 5e-2",
        "vgg16-cutout-lr0.1": "--model.name vgg16 --cutout --lr 0.1",
        "vgg16-cutout-lr5e-2": "--model.name vgg16 --cutout --lr 5e-2",
    }


def test_axes_of_named_sets_and_single_rows_extend_the_base():
    Path("small.yaml").write_text("model: resnet20\nepochs: 3\n")
    assert lines("""
        base: {config: small.yaml, optim: {lr: 0.2}, milestones: [1, 2], clip: null}
        axes: {mix: {none: , mixup: 0.2, both: {mixup: on, augment.cutmix.alpha: 0.5}}}
        rows: {sam: on, slow: {lr: 0.01, crit: lsr}}
    """) == {
        "none": "--config small.yaml --optim.lr 0.2 --milestones 1,2 --clip null",
        "mixup": "--config small.yaml --optim.lr 0.2 --milestones 1,2 --clip null --mixup 0.2",
        "both": "--config small.yaml --optim.lr 0.2 --milestones 1,2 --clip null --mixup "
        "--augment.cutmix.alpha 0.5",
        "sam": "--config small.yaml --optim.lr 0.2 --milestones 1,2 --clip null --sam",
        # An overridden setting keeps its place; `crit: lsr` of an older project is translated.
        "slow": "--config small.yaml --lr 0.01 --milestones 1,2 --clip null --augment.label_smoothing",
    }


def test_a_row_overrides_the_base():
    found = lines("""
        base: {cutout: 16, optim: adamw, lr: 1e-3, schedule: cosine}
        rows: {plain: , none: {cutout: off}, small: {cutout-size: 8}, sgd: {optim: sgd}}
    """)
    assert found["none"].split(" --")[-1] == "no-cutout" and "--cutout" not in found["none"]
    assert "--cutout-size 8" in found["small"] and "16" not in found["small"]
    assert "1e-3" not in found["sgd"]
    sgd = write_grid(Path("g.yaml").read_text()).rows[-1]
    assert any("ignored: lr" in note for note in sgd.notes)


def test_arguments_parse_back_to_the_settings_of_the_row():
    text = "{data: 'folder:a=b', name: '--odd', channels_last: off, clip: 0.5, milestones: [[5], [6, 7]]}"
    rows = write_grid(
        f"base: {text}".replace(", milestones: [[5], [6, 7]]", "") + "\naxes: {milestones: [[5], [6, 7]]}"
    ).rows
    assert [row.name for row in rows] == ["milestones5", "milestones6,7"]
    tree = parse(list(rows[1].arguments)).config().tree()
    assert tree["data"]["name"] == "folder:a=b" and tree["run"]["name"] == "--odd"
    assert tree["train"]["channels_last"] is False and tree["schedule"]["milestones"] == [6, 7]


def test_exclusions_remove_combinations_but_not_single_rows():
    text = "axes: {cutout: [off, on], mix: {none: , mixup: on}}\nrows: {both: {cutout: on, mixup: 0.5}}\n"
    assert list(lines(text)) == ["none", "mixup", "cutout", "cutout-mixup", "both"]
    assert list(lines(text + "exclude: [{cutout: on, mix: mixup}]")) == ["none", "mixup", "cutout", "both"]
    assert list(lines(text + "exclude: {cutout: off}")) == ["cutout", "cutout-mixup", "both"]


def test_published_is_not_a_setting():
    rows = write_grid("rows: {plain: , cutout: {cutout: on, published: table-3}}").rows
    assert [row.published for row in rows] == [None, "table-3"]
    assert rows[1].arguments == ("--cutout",)


def test_seeds_are_a_list_or_a_range():
    assert read_seeds("0..4") == (0, 1, 2, 3, 4)
    assert read_seeds([3, 1]) == (3, 1)
    assert read_seeds("0, 7") == (0, 7)
    assert write_grid("rows: {a: {lr: 1}}").seeds == (0,)
    assert write_grid("rows: {a: {lr: 1}, b: {lr: 2}}\nbaseline: b").baseline == "b"


BAD = {
    "an unknown key": ("base: {cutuot: on}\nrows: {a: }", "unknown setting 'cutuot'", "did you mean cutout"),
    "an unknown key of a row": ("rows: {a: {trian.epochs: 3}}", "row a", "train.epochs"),
    "an unknown value": ("axes: {model.name: [resnet20, resnt56]}", "row resnt56", "did you mean resnet56"),
    "a wrong value": ("rows: {a: {epochs: many}}", "row a", "expected a number, got 'many'"),
    "an unknown key of the file": ("axis: {cutout: [on]}", "unknown key 'axis'", "did you mean axes"),
    "an empty axis": ("axes: {cutout: []}", "axis cutout", "expected values"),
    "an axis of one value": ("axes: {lr: 0.1}", "axis lr", "expected values"),
    "a repeated value": ("axes: {lr: [0.1, 0.1]}", "axis lr", "is repeated"),
    "sets without names": ("axes: {mix: [{mixup: on}]}", "axis mix", "need names"),
    "neither axes nor rows": ("base: {epochs: 3}", "needs axes or rows"),
    "an empty file": ("", "needs axes or rows"),
    "two rows that are the same run": ("rows: {a: {lr: 0.2}, b: {lr: 2e-1}}", "a and b are the same run"),
    "two rows of one name": ("axes: {cutout: [on]}\nrows: {cutout: 8}", "two rows of this name"),
    "names that some file systems confuse": ("rows: {a: {lr: 1}, A: {lr: 2}}", "two rows of this name"),
    "a name that is no folder": ("rows: {../a: {lr: 1}}", "row '../a'", "letters, digits"),
    "a seed that is no number": ("rows: {a: }\nseeds: [0, x]", "seeds must be whole numbers", "'x'"),
    "a single seed": ("rows: {a: }\nseeds: 3", "seeds 3 may be one seed or 3 of them", "0..2"),
    "an empty range": ("rows: {a: }\nseeds: 4..0", "seeds", "there is none"),
    "a seed twice": ("rows: {a: }\nseeds: [1, 1]", "seeds", "given twice"),
    "an exclusion of no axis": ("axes: {lr: [1, 2]}\nexclude: [{cutout: on}]", "'cutout' is no axis", "lr"),
    "an exclusion of no value": ("axes: {lr: [1, 2]}\nexclude: {lr: 3}", "3 is no value of the axis", "1, 2"),
    "an exclusion without axes": ("rows: {a: }\nexclude: [{lr: 3}]", "no axes to exclude from"),
    "an exclusion of all": ("axes: {lr: [1]}\nexclude: [{lr: 1}]", "needs axes or rows"),
    "a baseline that is no row": ("rows: {plain: }\nbaseline: plane", "'plane'", "did you mean plain"),
    "a seed among the settings": ("rows: {a: {seed: 3}}", "row a", "use seeds"),
    "a folder among the settings": ("base: {run: {output_dir: x}}\nrows: {a: }", "use --output-dir"),
    "a missing file of settings": ("base: {config: no.yaml}\nrows: {a: }", "no.yaml", "no such file"),
    "two conflicting settings": ("rows: {a: {cutout: off, cutout_size: 4}}", "row a", "remove one"),
    "rows that are no mapping": ("rows: [a, b]", "rows: expected key: value"),
    "a key twice": ("rows: {a: , a: }", "was given twice"),
    "no YAML": ("rows: {a", "line 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_an_invalid_grid_is_refused_in_one_line_before_any_run(case, capsys):
    text, *parts = BAD[case]
    Path("g.yaml").write_text(text)
    assert scripts.grid.main(["g.yaml"], train=("false",)) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: g.yaml") and message.count("\n") == 1
    for part in parts:
        assert part in message
    assert [path.name for path in Path().iterdir()] == ["g.yaml"]


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/grids/*.yaml")), ids=lambda path: path.stem)
def test_every_grid_of_the_project_can_be_read(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = read_grid(path)
    assert len(found.rows) > 1 and found.baseline in [row.name for row in found.rows]
